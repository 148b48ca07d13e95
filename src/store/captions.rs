//! What pictures of data sets show: what a sweep's files say, and what machines have written.

use std::collections::HashMap;

use anyhow::Context;
use sqlx::PgPool;
use time::OffsetDateTime;

use super::findings::{Caption, Image};
use crate::plan::Plan;
use crate::queue::Tx;

/// Writes what a sweep's files say of pictures that no model made, in the place of what they said before: none of it is in a
/// key. `plan` is the whole plan. Of a sweep that is new nothing was said before.
///
/// # Errors
/// Postgres is out of reach.
pub async fn record(tx: &mut Tx<'_>, sweep: i32, plan: &Plan, is_new: bool) -> anyhow::Result<()> {
    let said = plan.cells.iter().enumerate().filter_map(|(idx, cell)| {
        let source = &plan.sources[cell.source];
        // Damage changes nothing about what a picture shows; a model's prompt stands with its picture.
        let is_plain = source.rung.is_none() && source.making.is_none();
        // Postgres's text holds no NUL.
        let text = cell.caption.as_deref().filter(|_| is_plain)?.trim().replace('\0', "\u{fffd}");
        (!text.is_empty()).then_some((idx, text))
    });
    let said = said.map(|(idx, text)| Ok((i32::try_from(idx)?, text)));
    let (cells, texts): (Vec<i32>, Vec<String>) = said.collect::<anyhow::Result<Vec<_>>>()?.into_iter().unzip();
    if is_new && cells.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "with said as (
            select * from unnest($2::int[], $3::text[]) as said (cell_idx, text)
        ), gone as (
            delete from cell_caption where sweep_id = $1 and cell_idx not in (select cell_idx from said)
        )
        insert into cell_caption (sweep_id, cell_idx, text)
        select $1, cell_idx, text from said
        on conflict (sweep_id, cell_idx) do update set text = excluded.text",
        sweep,
        &cells,
        &texts
    )
    .execute(&mut **tx)
    .await
    .context("write what the pictures show")?;
    Ok(())
}

/// What is said of the images of a sweep: by its files first, then by machines, who are named. With `at`, what was said then.
///
/// # Errors
/// Postgres is out of reach.
pub async fn of_sweep(
    pool: &PgPool,
    sweep: i32,
    at: Option<OffsetDateTime>,
    images: &[Image],
) -> anyhow::Result<Vec<Caption>> {
    let mut places: HashMap<(usize, &str), usize> = HashMap::new();
    for (idx, it) in images.iter().enumerate() {
        places.entry((it.source, &it.sample)).or_insert(idx);
    }
    let rows = sqlx::query!(
        "select cell.idx, cell.source_idx as \"source_idx!\", cell.sample as \"sample!\", null as by, cell_caption.text as \"text!\"
        from cell_caption
        join cell on cell.sweep_id = cell_caption.sweep_id and cell.idx = cell_caption.cell_idx
        where cell_caption.sweep_id = $1
        union all
        select cell.idx, cell.source_idx, cell.sample, coalesce(caption.snapshot, caption.model), caption.text
        from sweep_job
        join caption on caption.job_id = sweep_job.job_id
        join cell on cell.sweep_id = sweep_job.sweep_id and cell.picture = caption.picture
        where sweep_job.sweep_id = $1 and ($2::timestamptz is null or caption.written_at <= $2)
        order by 1, 4 nulls first, 5",
        sweep,
        at
    )
    .fetch_all(pool)
    .await
    .context("read what the pictures show")?;
    let mut captions = Vec::new();
    for row in rows {
        let source = usize::try_from(row.source_idx)?;
        if let Some(image) = places.get(&(source, row.sample.as_str())) {
            captions.push(Caption { image: *image, by: row.by, text: row.text });
        }
    }
    Ok(captions)
}
