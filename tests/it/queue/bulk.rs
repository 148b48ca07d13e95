//! Rows that are sent in bulk: few as arrays, many by COPY, and the table cannot tell which.

use jobctl::job::Hash;
use jobctl::queue::bulk::{Kind, Row, Table, send};

use crate::support::database::Database;

const TABLE: Table = Table {
    name: "sent",
    columns: &[
        ("place", Kind::Int8),
        ("small", Kind::Int2),
        ("middle", Kind::Int4),
        ("single", Kind::Float4),
        ("double", Kind::Float8),
        ("flag", Kind::Bool),
        ("words", Kind::Text),
        ("value", Kind::Jsonb),
        ("bytes", Kind::Bytes),
    ],
};

/// Every third row is null wherever it may be, the first among them.
fn write(row: &mut Row<'_>, place: i64) -> anyhow::Result<()> {
    let there = |it: i64| (place % 3 != 0).then_some(it);
    row.int8(place)?;
    row.maybe(there(place), |row, it| row.int2(-(it as i16)))?;
    row.int4(place as i32 * 1_000_000)?;
    row.maybe(there(place), |row, it| row.float4(it as f32 / 3.0))?;
    row.float8(place as f64 / 7.0)?;
    row.bool(place % 2 == 0)?;
    row.maybe(there(place), |row, it| row.text(&format!("{{\"}},\\ 'ü\0{it}\n")))?;
    row.maybe(there(place), |row, it| row.jsonb(&format!(r#"{{"of": [{it}, null]}}"#)))?;
    if place % 4 == 0 { row.no_bytes() } else { row.hash(&Hash([place as u8; 32])) }
}

#[tokio::test(flavor = "multi_thread")]
async fn few_rows_and_many_become_the_same() {
    let db = Database::new().await;
    let mut tx = db.begin().await;
    sqlx::query(
        "create temporary table sent (place int8 primary key, small int2, middle int4, single float4, double float8, flag bool,
            words text, value jsonb, bytes bytea)",
    )
    .execute(&mut *tx)
    .await
    .unwrap();
    // 250 at once go by COPY; then the same, a few at a time.
    send(&mut tx, &TABLE, 0..250, write).await.unwrap();
    sqlx::query("create temporary table at_once as select * from sent").execute(&mut *tx).await.unwrap();
    sqlx::query("delete from sent").execute(&mut *tx).await.unwrap();
    for first in [0, 1, 200] {
        let end = [1, 200, 250].into_iter().find(|it| *it > first).unwrap();
        send(&mut tx, &TABLE, first..end, write).await.unwrap();
    }
    send(&mut tx, &TABLE, 0..0, write).await.unwrap();
    let [n, n_nulls, n_unlike]: [i64; 3] = {
        let count = "select count(*) from sent";
        let nulls = "select count(*) from sent where small is null and words is null and value is null";
        let unlike = "select count(*) from sent full join at_once using (place) where sent is distinct from at_once";
        let mut counts = [0; 3];
        for (to, query) in counts.iter_mut().zip([count, nulls, unlike]) {
            *to = sqlx::query_scalar(query).fetch_one(&mut *tx).await.unwrap();
        }
        counts
    };
    assert_eq!([n, n_nulls, n_unlike], [250, 84, 0]);
    let (words, of): (String, i32) =
        sqlx::query_as("select words, (value -> 'of' -> 0)::int from sent where place = 2")
            .fetch_one(&mut *tx)
            .await
            .unwrap();
    assert_eq!((words.as_str(), of), ("{\"},\\ 'ü\u{fffd}2\n", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_lacks_a_column_is_refused() {
    let db = Database::new().await;
    let mut tx = db.begin().await;
    let short = |row: &mut Row<'_>, place: i64| {
        row.int8(place)?;
        row.int2(1)
    };
    let sent = send(&mut tx, &TABLE, [1], short).await;
    assert_eq!(sent.unwrap_err().to_string(), "a row of 2 columns for sent");
}
