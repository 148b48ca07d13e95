//! Finding the pictures that tables of labels name.

use std::collections::HashMap;

use anyhow::Context;
use sqlx::PgPool;

use crate::job::Hash;
use crate::job::task::Picture;

/// A cell of a sweep, as people name it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The source's name.
    pub source: String,
    /// The model that it stands for.
    pub model: Option<String>,
    /// The sample.
    pub sample: String,
    /// The picture's key.
    pub picture: Hash,
}

/// The cells of a sweep.
///
/// # Errors
/// Postgres is out of reach.
pub async fn places(pool: &PgPool, sweep: i32) -> anyhow::Result<Vec<Place>> {
    let rows = sqlx::query!(
        "select source.name, source.model, cell.sample, cell.picture
        from cell join source on source.sweep_id = cell.sweep_id and source.idx = cell.source_idx
        where cell.sweep_id = $1
        order by cell.idx",
        sweep
    )
    .fetch_all(pool)
    .await
    .context("read the cells")?;
    let place =
        |name, model, sample, picture: Vec<u8>| Ok(Place { source: name, model, sample, picture: picture.try_into()? });
    rows.into_iter().map(|row| place(row.name, row.model, row.sample, row.picture)).collect()
}

/// The keys of the pictures that files of these contents are: of files that jobs have made the jobs' pictures, of others
/// the files' own, whether a sweep has read them or not.
///
/// # Errors
/// Postgres is out of reach.
pub async fn pictures_of_files(pool: &PgPool, contents: &[Hash]) -> anyhow::Result<HashMap<Hash, Hash>> {
    let hashes: Vec<Vec<u8>> = contents.iter().map(|it| it.0.to_vec()).collect();
    let rows = sqlx::query!("select artifact, key from job_output where artifact = any($1) order by key", &hashes)
        .fetch_all(pool)
        .await
        .context("look for files that jobs have made")?;
    let mut found: HashMap<Hash, Hash> =
        contents.iter().map(|it| (*it, Picture::of_file(*it, Vec::new()).key())).collect();
    for row in rows {
        found.insert(Hash::try_from(row.artifact)?, Picture::of_job(Hash::try_from(row.key)?).key());
    }
    Ok(found)
}

/// The keys of the pictures whose own hash, or whose file's, begins with these hexadecimal digits; three at most.
///
/// # Errors
/// Postgres is out of reach.
pub async fn pictures_by_prefix(pool: &PgPool, digits: &str) -> anyhow::Result<Vec<Hash>> {
    let rows = sqlx::query_scalar!(
        "select picture as \"picture!\"
        from (
            select picture from cell where starts_with(encode(picture, 'hex'), $1)
            union
            select picture from image where starts_with(encode(picture, 'hex'), $1)
            union
            select picture from image where starts_with(encode(content, 'hex'), $1) and not recipe ? 'steps'
            union
            select image.picture
            from image join job_output on job_output.key = image.content
            where starts_with(encode(job_output.artifact, 'hex'), $1) and not recipe ? 'steps'
        ) as found
        order by picture
        limit 3",
        digits
    )
    .fetch_all(pool)
    .await
    .context("look for a picture by its hash")?;
    rows.into_iter().map(Hash::try_from).collect()
}

/// A file of labels that was imported.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Imported {
    /// Its number.
    pub id: i32,
    /// The file's name.
    pub name: String,
    /// Which column was taken for what.
    pub mapping: serde_json::Value,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub imported_at: super::Moment,
    /// Its rows.
    pub n_rows: i32,
    /// Ratings that it brought.
    pub n_ratings: i64,
    /// Verdicts that it brought.
    pub n_verdicts: i64,
    /// Raters among them.
    pub n_raters: i64,
}

/// The imported files, the latest first.
///
/// # Errors
/// Postgres is out of reach.
pub async fn imports(pool: &PgPool) -> anyhow::Result<Vec<Imported>> {
    sqlx::query_as!(
        Imported,
        "select label_import.id, label_import.name, label_import.mapping, label_import.imported_at, label_import.n_rows,
            (select count(*) from rating where rating.import_id = label_import.id) as \"n_ratings!\",
            (select count(*) from verdict where verdict.import_id = label_import.id) as \"n_verdicts!\",
            (select count(*) from (
                select judge, rater from rating where rating.import_id = label_import.id
                union
                select judge, rater from verdict where verdict.import_id = label_import.id
            ) as raters) as \"n_raters!\"
        from label_import
        order by label_import.id desc"
    )
    .fetch_all(pool)
    .await
    .context("list the imported files")
}
