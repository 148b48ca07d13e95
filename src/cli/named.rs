//! Files that somebody named on the command line: their text, and what is wrong with them.

use std::io::IsTerminal;
use std::path::Path;

use anyhow::Context;

use super::lines::plain;
use crate::sweep::Faults;

/// The text of a file that somebody named; none if there is no such file, which has been said then.
///
/// # Errors
/// It is there and cannot be read.
pub fn text_of(path: &Path, what: &str, examples: &str) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let path = path.display().to_string();
            eprintln!("error: read the {what} {}: {error}", plain(&path));
            eprintln!("  help: examples lie in {examples}; README.md explains every key");
            Ok(None)
        }
        text => text.map(Some).with_context(|| format!("read the {what} {}", path.display())),
    }
}

/// Prints the mistakes of a file.
pub fn print(faults: &Faults) {
    if std::io::stderr().is_terminal() {
        eprintln!("{}", faults.for_terminal(100));
    } else {
        eprintln!("{}", plain(&faults.to_string()));
    }
}
