//! What the verbs print with: lines to a reader that may leave before the end, and tables.

use std::io::{self, Write};

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::Outcome;

/// Standard output, one JSON value or text a line.
pub struct Lines {
    out: io::StdoutLock<'static>,
}

impl Lines {
    /// Takes standard output for this thread.
    pub fn new() -> Self {
        Self { out: io::stdout().lock() }
    }

    /// Prints one line of JSON.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.text(&escaped(&serde_json::to_string(value)?))
    }

    /// Prints text and a line's end.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }
}

/// What a command that printed comes to: a reader that has left (`| head`) is no failure.
pub fn ended(printed: io::Result<Outcome>) -> anyhow::Result<Outcome> {
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Outcome::Done),
        other => anyhow::Context::context(other, "write to standard output"),
    }
}

/// Prints a line of the verb's answer; a reader that has gone away ends the program quietly.
pub fn say(line: impl std::fmt::Display) {
    let mut out = io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Prints a JSON value as one line.
pub fn say_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    say(escaped(&serde_json::to_string(value)?));
    Ok(())
}

/// Text from elsewhere as a terminal may have it: without control characters, so without its commands, and without those
/// that turn the direction of writing, so that it reads as it is.
pub fn plain(text: &str) -> String {
    text.chars().map(|it| if steers(it) && it != '\n' { '\u{fffd}' } else { it }).collect()
}

/// JSON with the same characters escaped, which means the same.
fn escaped(json: &str) -> String {
    if !json.chars().any(steers) {
        return json.to_owned();
    }
    let escape = |it: char| if steers(it) { format!("\\u{:04x}", u32::from(it)) } else { it.to_string() };
    json.chars().map(escape).collect()
}

/// Whether a terminal takes a character for an order.
fn steers(it: char) -> bool {
    it.is_control() || matches!(it, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// An empty table as wide as the terminal.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table
}

/// A number's cell.
pub fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

#[cfg(test)]
mod tests {
    use super::{escaped, plain};

    #[test]
    fn orders_to_a_terminal_are_taken_out_or_escaped() {
        let text = "a\u{1b}[2J\u{9b}31m\u{202e}b\nc";
        assert_eq!(plain(text), "a\u{fffd}[2J\u{fffd}31m\u{fffd}b\nc");
        let json = escaped(&serde_json::to_string(text).unwrap());
        assert!(json.is_ascii(), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
