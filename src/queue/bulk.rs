//! Sending rows in COPY's binary format: many with COPY, few as arrays.
//!
//! COPY costs no parsing, but its end is a small packet behind unacknowledged data: over TCP it may wait 40 ms for an
//! acknowledgement that the other side delays. So few rows go as one statement whose arguments are the columns.

use anyhow::Context;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo};
use sqlx::{AssertSqlSafe, Postgres, Type};

use super::Tx;
use super::wake::{Call, notification, notify};
use crate::job::Hash;

/// So many rows are few.
const FEW: usize = 200;
/// How much is collected before it is sent: Postgres reads one part while the next one is written.
const PART_BYTES: usize = 1 << 20;

/// Where rows go: a table and some of its columns, each with its type.
pub struct Table {
    /// The table's name.
    pub name: &'static str,
    /// The columns, in the order in which rows are written.
    pub columns: &'static [(&'static str, Kind)],
}

/// The type of a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `smallint`
    Int2,
    /// `int`
    Int4,
    /// `bigint`
    Int8,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `boolean`
    Bool,
    /// `text`
    Text,
    /// `jsonb`
    Jsonb,
    /// `bytea`
    Bytes,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Int2 => "int2",
            Self::Int4 => "int4",
            Self::Int8 => "int8",
            Self::Float4 => "float4",
            Self::Float8 => "float8",
            Self::Bool => "bool",
            Self::Text => "text",
            Self::Jsonb => "jsonb",
            Self::Bytes => "bytea",
        }
    }

    /// Its number in Postgres's catalogue, which never changes.
    fn oid(self) -> u32 {
        match self {
            Self::Int2 => 21,
            Self::Int4 => 23,
            Self::Int8 => 20,
            Self::Float4 => 700,
            Self::Float8 => 701,
            Self::Bool => 16,
            Self::Text => 25,
            Self::Jsonb => 3802,
            Self::Bytes => 17,
        }
    }

    /// What sqlx calls an array of it.
    fn array(self) -> PgTypeInfo {
        match self {
            Self::Int2 => <Vec<i16> as Type<Postgres>>::type_info(),
            Self::Int4 => <Vec<i32> as Type<Postgres>>::type_info(),
            Self::Int8 => <Vec<i64> as Type<Postgres>>::type_info(),
            Self::Float4 => <Vec<f32> as Type<Postgres>>::type_info(),
            Self::Float8 => <Vec<f64> as Type<Postgres>>::type_info(),
            Self::Bool => <Vec<bool> as Type<Postgres>>::type_info(),
            Self::Text => <Vec<String> as Type<Postgres>>::type_info(),
            Self::Jsonb => <Vec<sqlx::types::Json<()>> as Type<Postgres>>::type_info(),
            Self::Bytes => <Vec<Vec<u8>> as Type<Postgres>>::type_info(),
        }
    }
}

impl Table {
    fn names(&self) -> String {
        self.columns.iter().map(|it| it.0).collect::<Vec<_>>().join(", ")
    }

    fn refusal(&self) -> String {
        format!("write rows of {}", self.name)
    }
}

/// Rows of several tables, of which the few ones go together.
#[derive(Default)]
pub struct Batch {
    few: Vec<(&'static Table, Vec<u8>)>,
    call: Option<Call>,
}

impl Batch {
    /// Sends many rows, and keeps few for [`finish`](Self::finish); `write` appends the columns of one, in the table's
    /// order.
    ///
    /// # Errors
    /// Postgres refuses a row or is out of reach.
    pub async fn send<Item>(
        &mut self,
        tx: &mut Tx<'_>,
        table: &'static Table,
        items: impl IntoIterator<Item = Item>,
        mut write: impl FnMut(&mut Row<'_>, Item) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut items = items.into_iter();
        let mut put = |part: &mut Vec<u8>, item: Item| {
            part.extend(i16::try_from(table.columns.len())?.to_be_bytes());
            let mut row = Row { part, n_columns: 0 };
            write(&mut row, item)?;
            anyhow::ensure!(
                row.n_columns == table.columns.len(),
                "a row of {} columns for {}",
                row.n_columns,
                table.name
            );
            anyhow::Ok(())
        };
        let mut part = Vec::new();
        for item in items.by_ref().take(FEW) {
            put(&mut part, item)?;
        }
        let Some(next) = items.next() else {
            if !part.is_empty() {
                self.few.push((table, part));
            }
            return Ok(());
        };
        let statement = format!("copy {} ({}) from stdin (format binary)", table.name, table.names());
        let mut sink = tx.copy_in_raw(&statement).await.with_context(|| table.refusal())?;
        // The header: no flags, no extension.
        part.splice(0..0, *b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
        for item in std::iter::once(next).chain(items) {
            put(&mut part, item)?;
            if part.len() >= PART_BYTES {
                sink.send(&part[..]).await.with_context(|| table.refusal())?;
                part.clear();
            }
        }
        part.extend((-1i16).to_be_bytes());
        sink.send(&part[..]).await.with_context(|| table.refusal())?;
        sink.finish().await.with_context(|| table.refusal())?;
        Ok(())
    }

    /// Has every worker told, with what [`finish`](Self::finish) sends.
    pub fn call(&mut self, call: Call) {
        self.call = Some(call);
    }

    /// Inserts the rows that were kept, column by column, in one statement.
    ///
    /// # Errors
    /// Postgres refuses a row or is out of reach.
    pub async fn finish(self, tx: &mut Tx<'_>) -> anyhow::Result<()> {
        if self.few.is_empty() {
            return match self.call {
                Some(call) => notify(tx, call).await,
                None => Ok(()),
            };
        }
        let mut arrays = Vec::new();
        let mut inserts = Vec::new();
        for (table, rows) in &self.few {
            let first = arrays.len();
            arrays.extend(table.columns.iter().map(|it| Array::new(it.1)));
            let mut rows = &rows[..];
            while !rows.is_empty() {
                // How many columns there are has been seen to.
                rows = &rows[2..];
                for array in &mut arrays[first..] {
                    rows = array.take(rows);
                }
            }
            let casts =
                table.columns.iter().enumerate().map(|(idx, it)| format!("${}::{}[]", first + idx + 1, it.1.name()));
            let (name, names, casts) = (table.name, table.names(), casts.collect::<Vec<_>>().join(", "));
            inserts.push(format!("new_{name} as (insert into {name} ({names}) select * from unnest({casts}))"));
        }
        // The same text whatever the number of rows: a connection prepares it once.
        let and_call = self.call.map_or_else(String::new, notification);
        let statement = format!("with {} select {and_call}", inserts.join(", "));
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for array in arrays {
            query = query.bind(array);
        }
        let tables = || self.few.iter().map(|it| it.0.name).collect::<Vec<_>>().join(", ");
        query.execute(&mut **tx).await.with_context(|| format!("write rows of {}", tables()))?;
        Ok(())
    }
}

/// Sends the rows of one table.
///
/// # Errors
/// Postgres refuses a row or is out of reach.
pub async fn send<Item>(
    tx: &mut Tx<'_>,
    table: &'static Table,
    items: impl IntoIterator<Item = Item>,
    write: impl FnMut(&mut Row<'_>, Item) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut batch = Batch::default();
    batch.send(tx, table, items, write).await?;
    batch.finish(tx).await
}

/// A column as an array.
struct Array {
    kind: Kind,
    n: i32,
    /// The elements, each behind its length.
    elements: Vec<u8>,
}

impl Array {
    fn new(kind: Kind) -> Self {
        Self { kind, n: 0, elements: Vec::new() }
    }

    /// Takes one element; returns what stands behind it.
    fn take<'a>(&mut self, rows: &'a [u8]) -> &'a [u8] {
        let length = i32::from_be_bytes([rows[0], rows[1], rows[2], rows[3]]);
        // Null has the length −1 and no bytes.
        let (element, rest) = rows.split_at(4 + usize::try_from(length).unwrap_or(0));
        self.elements.extend(element);
        self.n += 1;
        rest
    }
}

impl Type<Postgres> for Array {
    fn type_info() -> PgTypeInfo {
        Kind::Text.array()
    }
}

impl Encode<'_, Postgres> for Array {
    fn produces(&self) -> Option<PgTypeInfo> {
        Some(self.kind.array())
    }

    fn encode_by_ref(&self, to: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        // One dimension, nulls are possible, the elements' type, their number, the first one's index.
        for word in [1, 1, self.kind.oid() as i32, self.n, 1] {
            to.extend(&word.to_be_bytes());
        }
        to.extend(&self.elements);
        Ok(IsNull::No)
    }
}

/// A row that is being written.
pub struct Row<'a> {
    part: &'a mut Vec<u8>,
    n_columns: usize,
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
