//! How the program logs: to standard error, as text or as one JSON object a line, with nothing in it that a terminal obeys.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogWishes;

/// What a log line looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// What is logged where nobody says otherwise: sqlx's own warnings would repeat what is logged anyway.
const DEFAULT: &str = "info,sqlx=error";

/// Starts logging: `format` is the command line's wish, which goes before the environment's.
///
/// # Errors
/// JOBCTL_LOG, RUST_LOG or JOBCTL_LOG_FORMAT make no sense; says which and why.
pub fn start(format: Option<Format>, wishes: &LogWishes) -> anyhow::Result<()> {
    let format = match (format, &wishes.format) {
        (Some(format), _) => format,
        (None, Some(word)) => Format::from_str(word, true).map_err(|_| {
            anyhow::anyhow!("JOBCTL_LOG_FORMAT is `{}`: it is `text` or `json`", printable(word, false))
        })?,
        (None, None) => Format::Text,
    };
    let filter = match &wishes.filter {
        Some((name, text)) => EnvFilter::try_new(text).map_err(|error| {
            anyhow::anyhow!("{name} is `{}`: {error}; `debug` or `info,sqlx=warn` would do", printable(text, false))
        })?,
        None => EnvFilter::new(DEFAULT),
    };
    let colours = format == Format::Text && io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Clean { colours }).with_ansi(colours);
    match format {
        Format::Text => log.with_target(false).init(),
        Format::Json => log.json().flatten_event(true).with_span_list(true).with_current_span(false).init(),
    }
    Ok(())
}

/// Standard error without control characters: what tasks, files and servers say ends up in logs, and logs in terminals.
#[derive(Clone, Copy)]
struct Clean {
    /// Whether our own colours pass.
    colours: bool,
}

impl MakeWriter<'_> for Clean {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

impl Write for Clean {
    /// An event comes as one call.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let mut clean = printable(line, self.colours);
        clean.push('\n');
        io::stderr().lock().write_all(clean.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Text with its control characters written out, but for the codes that set colours where those may pass.
fn printable(text: &str, colours: bool) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(it) = rest.chars().next() {
        if colours && let Some(n) = colour_code(rest) {
            clean.push_str(&rest[..n]);
            rest = &rest[n..];
            continue;
        }
        if it.is_control() {
            clean.extend(it.escape_default());
        } else {
            clean.push(it);
        }
        rest = &rest[it.len_utf8()..];
    }
    clean
}

/// The length of the code at the beginning of `text` that sets a colour or a weight.
fn colour_code(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("\u{1b}[")?;
    let n = inner.find(|it: char| !it.is_ascii_digit() && it != ';')?;
    inner[n..].starts_with('m').then_some("\u{1b}[".len() + n + 1)
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn only_colours_pass_and_only_where_they_may() {
        assert_eq!(printable("a\u{1b}[2Jb\r\nc\u{7}", true), "a\\u{1b}[2Jb\\r\\nc\\u{7}");
        assert_eq!(printable("\u{1b}[1;31mred\u{1b}[0m é", true), "\u{1b}[1;31mred\u{1b}[0m é");
        assert_eq!(printable("\u{1b}[31mred", false), "\\u{1b}[31mred");
        assert_eq!(printable("\u{9b}2J\u{1b}", true), "\\u{9b}2J\\u{1b}");
    }
}
