//! Sending many rows at once, in COPY's text format.

use anyhow::Context;

use super::Tx;

/// How much text is collected before it is sent: Postgres reads one part while the next one is written.
const PART_BYTES: usize = 1 << 20;

/// Sends rows; `write` appends one as a line, its values escaped by [`escape`] where they may need it.
///
/// # Errors
/// Postgres refuses a row or is out of reach.
pub async fn copy<Row>(
    tx: &mut Tx<'_>,
    statement: &'static str,
    rows: impl IntoIterator<Item = Row>,
    mut write: impl FnMut(&mut String, Row) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    let mut sink = tx.copy_in_raw(statement).await.with_context(|| statement.to_owned())?;
    let mut text = String::with_capacity(PART_BYTES + 4096);
    for row in rows {
        write(&mut text, row)?;
        if text.len() >= PART_BYTES {
            sink.send(text.as_bytes()).await.with_context(|| statement.to_owned())?;
            text.clear();
        }
    }
    sink.send(text.as_bytes()).await.with_context(|| statement.to_owned())?;
    sink.finish().await.with_context(|| statement.to_owned())?;
    Ok(())
}

/// Appends `value` as COPY's text format wants it.
pub fn escape(value: &str, text: &mut String) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            // Postgres's text holds no NUL.
            '\0' => text.push('\u{fffd}'),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn a_name_cannot_end_its_line_or_column() {
        let mut text = String::new();
        escape("a\tb\nc\\N\r\0", &mut text);
        assert_eq!(text, "a\\tb\\nc\\\\N\\r\u{fffd}");
    }
}
