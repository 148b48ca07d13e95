//! Reports by their definitions: what is read, what counts as a change, what a night says.

mod definition;
mod history;
pub mod program;

use jobctl::report::definition::Definition;

/// A definition over the sweep `small`, and these blocks.
pub fn definition(blocks: &str) -> Definition {
    let text = format!("name = \"nightly\"\ntitle = \"Every night\"\n[sweeps]\nnames = [\"small\"]\n{blocks}\n");
    Definition::parse(&text, "nightly.toml").unwrap_or_else(|faults| panic!("{faults}"))
}
