//! Sending many rows at once, in COPY's binary format.

use anyhow::Context;

use super::Tx;
use crate::job::Hash;

/// How much is collected before it is sent: Postgres reads one part while the next one is written.
const PART_BYTES: usize = 1 << 20;

/// Sends rows; `write` appends the columns of one, each with the width that the table gives it.
/// `statement` ends with `from stdin (format binary)`.
///
/// # Errors
/// Postgres refuses a row or is out of reach.
pub async fn copy<Item>(
    tx: &mut Tx<'_>,
    statement: &'static str,
    items: impl IntoIterator<Item = Item>,
    mut write: impl FnMut(&mut Row<'_>, Item) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut items = items.into_iter().peekable();
    if items.peek().is_none() {
        return Ok(());
    }
    let mut sink = tx.copy_in_raw(statement).await.with_context(|| statement.to_owned())?;
    let mut part = Vec::with_capacity(PART_BYTES + 4096);
    part.extend(b"PGCOPY\n\xff\r\n\0");
    // No flags, no extension of the header.
    part.extend([0; 8]);
    for item in items {
        let count_at = part.len();
        part.extend([0; 2]);
        let mut row = Row { part: &mut part, n_columns: 0 };
        write(&mut row, item)?;
        let n_columns = row.n_columns;
        part[count_at..count_at + 2].copy_from_slice(&n_columns.to_be_bytes());
        if part.len() >= PART_BYTES {
            sink.send(&part[..]).await.with_context(|| statement.to_owned())?;
            part.clear();
        }
    }
    part.extend((-1i16).to_be_bytes());
    sink.send(&part[..]).await.with_context(|| statement.to_owned())?;
    sink.finish().await.with_context(|| statement.to_owned())?;
    Ok(())
}

/// A row that is being written.
pub struct Row<'a> {
    part: &'a mut Vec<u8>,
    n_columns: i16,
}

impl Row<'_> {
    fn column(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.part.extend(i32::try_from(bytes.len()).context("a column of 2 GiB")?.to_be_bytes());
        self.part.extend(bytes);
        self.n_columns += 1;
        Ok(())
    }

    /// What `put` appends of a value, or null.
    pub fn maybe<T>(
        &mut self,
        value: Option<T>,
        put: impl FnOnce(&mut Self, T) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if let Some(value) = value {
            return put(self, value);
        }
        self.part.extend((-1i32).to_be_bytes());
        self.n_columns += 1;
        Ok(())
    }

    /// A `smallint`.
    pub fn int2(&mut self, value: i16) -> anyhow::Result<()> {
        self.column(&value.to_be_bytes())
    }

    /// An `int`.
    pub fn int4(&mut self, value: i32) -> anyhow::Result<()> {
        self.column(&value.to_be_bytes())
    }

    /// A `bigint`.
    pub fn int8(&mut self, value: i64) -> anyhow::Result<()> {
        self.column(&value.to_be_bytes())
    }

    /// A `real`.
    pub fn float4(&mut self, value: f32) -> anyhow::Result<()> {
        self.column(&value.to_be_bytes())
    }

    /// A `double precision`.
    pub fn float8(&mut self, value: f64) -> anyhow::Result<()> {
        self.column(&value.to_be_bytes())
    }

    /// A `boolean`.
    pub fn bool(&mut self, value: bool) -> anyhow::Result<()> {
        self.column(&[u8::from(value)])
    }

    /// A `text`. Postgres's holds no NUL: U+FFFD stands for it.
    pub fn text(&mut self, value: &str) -> anyhow::Result<()> {
        if value.contains('\0') {
            return self.column(value.replace('\0', "\u{fffd}").as_bytes());
        }
        self.column(value.as_bytes())
    }

    /// A `jsonb`, of its text, which must hold no NUL.
    pub fn jsonb(&mut self, value: &str) -> anyhow::Result<()> {
        // The version of the format, then the text.
        self.column(&[b"\x01", value.as_bytes()].concat())
    }

    /// A `bytea`.
    pub fn hash(&mut self, value: &Hash) -> anyhow::Result<()> {
        self.column(&value.0)
    }

    /// An empty `bytea`.
    pub fn no_bytes(&mut self) -> anyhow::Result<()> {
        self.column(&[])
    }
}
