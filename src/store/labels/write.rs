//! Writing ratings and verdicts: what is there already stays as it is.

use anyhow::Context;
use sqlx::types::Json;

use crate::job::{Hash, JobId};
use crate::labels::{Area, Judge, Pair, Rating, Verdict};
use crate::queue::Tx;

/// So many rows go in one statement.
const PIECE: usize = 5_000;

/// Where labels come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum From {
    /// A file: what [`begin_import`] returned.
    Import(i32),
    /// A job, in whose transaction they are written.
    Job(JobId),
}

impl From {
    fn columns(self) -> (Option<i32>, Option<i64>) {
        match self {
            Self::Import(id) => (Some(id), None),
            Self::Job(id) => (None, Some(id.0)),
        }
    }
}

/// A file of labels.
#[derive(Clone, Debug)]
pub struct Import {
    /// The hash of its bytes and of all else that decides what its rows mean: the same is imported once.
    pub content: Hash,
    /// The file's name.
    pub name: String,
    /// Which column was taken for what.
    pub mapping: serde_json::Value,
    /// Rows that it has.
    pub n_rows: usize,
}

/// What writing came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Added {
    /// How many rows are new.
    pub n_new: usize,
    /// How many were there already, saying the same.
    pub n_known: usize,
    /// Those that were there already and say something else, which stays: indices into what was given.
    pub differing: Vec<usize>,
}

/// Notes a file; none where the same file was imported before.
///
/// # Errors
/// Postgres is out of reach.
pub async fn begin_import(tx: &mut Tx<'_>, import: &Import) -> anyhow::Result<Option<i32>> {
    sqlx::query_scalar!(
        "insert into label_import (content, name, mapping, n_rows) values ($1, $2, $3, $4)
        on conflict (content) do nothing
        returning id",
        &import.content.0[..],
        without_nul(&import.name),
        Json(&import.mapping) as _,
        i32::try_from(import.n_rows)?
    )
    .fetch_optional(&mut **tx)
    .await
    .context("note the file of labels")
}

/// Postgres's text holds no NUL.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The columns that ratings and verdicts share.
#[derive(Default)]
struct Shared {
    keys: Vec<Vec<u8>>,
    x: Vec<Option<i32>>,
    y: Vec<Option<i32>>,
    width: Vec<Option<i32>>,
    height: Vec<Option<i32>>,
    aspects: Vec<String>,
    judges: Vec<String>,
    raters: Vec<String>,
    variants: Vec<String>,
    attention: Vec<Option<bool>>,
}

impl Shared {
    fn push(
        &mut self,
        key: Hash,
        area: Option<Area>,
        aspect: &str,
        judge: &Judge,
        attention: Option<bool>,
    ) -> anyhow::Result<()> {
        let side = |of: fn(&Area) -> u32| area.as_ref().map(|it| i32::try_from(of(it))).transpose();
        self.keys.push(key.0.to_vec());
        self.x.push(side(|it| it.x)?);
        self.y.push(side(|it| it.y)?);
        self.width.push(side(|it| it.width)?);
        self.height.push(side(|it| it.height)?);
        self.aspects.push(without_nul(aspect));
        self.judges.push(judge.kind.word().to_owned());
        self.raters.push(without_nul(&judge.name));
        self.variants.push(without_nul(&judge.variant));
        self.attention.push(attention);
        Ok(())
    }
}

/// Writes ratings. One whose key is known already is not written again; where it has another value, that is told.
///
/// # Errors
/// Postgres is out of reach, or refuses a value: one that is not finite or not on its scale, an empty area.
pub async fn write_ratings(tx: &mut Tx<'_>, from: From, ratings: &[Rating]) -> anyhow::Result<Added> {
    let mut added = Added::default();
    for (piece, ratings) in ratings.chunks(PIECE).enumerate() {
        let mut shared = Shared::default();
        let (mut pictures, mut values) = (Vec::new(), Vec::new());
        let (mut lows, mut highs) = (Vec::new(), Vec::new());
        for it in ratings {
            shared.push(it.key(), it.area, &it.aspect, &it.judge, it.attention)?;
            pictures.push(it.picture.0.to_vec());
            values.push(it.value);
            lows.push(it.scale.map(|it| it.low));
            highs.push(it.scale.map(|it| it.high));
        }
        let (import, job) = from.columns();
        let n_new = sqlx::query!(
            "insert into rating (key, picture, x, y, width, height, aspect, judge, rater, variant, value, low, high, attention, import_id, job_id)
            select fresh.*, $15::int, $16::bigint
            from unnest($1::bytea[], $2::bytea[], $3::int[], $4::int[], $5::int[], $6::int[], $7::text[], $8::text[], $9::text[],
                $10::text[], $11::float8[], $12::float8[], $13::float8[], $14::bool[])
                as fresh (key, picture, x, y, width, height, aspect, judge, rater, variant, value, low, high, attention)
            order by key
            on conflict (key) do nothing",
            &shared.keys,
            &pictures,
            &shared.x as &[Option<i32>],
            &shared.y as &[Option<i32>],
            &shared.width as &[Option<i32>],
            &shared.height as &[Option<i32>],
            &shared.aspects,
            &shared.judges,
            &shared.raters,
            &shared.variants,
            &values,
            &lows as &[Option<f64>],
            &highs as &[Option<f64>],
            &shared.attention as &[Option<bool>],
            import,
            job
        )
        .execute(&mut **tx)
        .await
        .context("write ratings")?
        .rows_affected();
        let differing = sqlx::query_scalar!(
            "select nth as \"nth!\"
            from unnest($1::bytea[], $2::float8[], $3::bool[]) with ordinality as fresh (key, value, attention, nth)
            join rating using (key)
            where rating.value <> fresh.value or rating.attention is distinct from fresh.attention
            order by nth",
            &shared.keys,
            &values,
            &shared.attention as &[Option<bool>],
        )
        .fetch_all(&mut **tx)
        .await
        .context("compare with the ratings that exist")?;
        added.add(piece, ratings.len(), n_new, &differing)?;
    }
    Ok(added)
}

/// Writes verdicts. One whose key is known already is not written again; where it has another choice, that is told.
///
/// # Errors
/// Postgres is out of reach, or refuses a pair: of a picture with itself, an empty area.
pub async fn write_verdicts(tx: &mut Tx<'_>, from: From, verdicts: &[Verdict]) -> anyhow::Result<Added> {
    let mut added = Added::default();
    for (piece, verdicts) in verdicts.chunks(PIECE).enumerate() {
        let mut shared = Shared::default();
        let (mut firsts, mut seconds) = (Vec::new(), Vec::new());
        let (mut first_models, mut second_models, mut prompts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut shown, mut choices, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
        for it in verdicts {
            shared.push(it.key(), it.area, &it.aspect, &it.judge, it.attention)?;
            let (pictures, models) = match &it.pair {
                Pair::Pictures { first, second } => (Some((first, second)), None),
                Pair::Models { first, second, prompt } => (None, Some((first, second, prompt))),
            };
            firsts.push(pictures.map(|it| it.0.0.to_vec()));
            seconds.push(pictures.map(|it| it.1.0.to_vec()));
            first_models.push(models.map(|it| without_nul(it.0)));
            second_models.push(models.map(|it| without_nul(it.1)));
            prompts.push(models.map(|it| without_nul(it.2)));
            shown.push(it.shown.word().to_owned());
            choices.push(it.choice.word().to_owned());
            reasons.push(without_nul(&it.reason));
        }
        let (import, job) = from.columns();
        let n_new = sqlx::query!(
            "insert into verdict (key, first, second, first_model, second_model, prompt, x, y, width, height, aspect, judge, rater, variant,
                shown, choice, reason, attention, import_id, job_id)
            select fresh.*, $19::int, $20::bigint
            from unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::int[], $8::int[], $9::int[],
                $10::int[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::bool[])
                as fresh (key, first, second, first_model, second_model, prompt, x, y, width, height, aspect, judge, rater, variant,
                    shown, choice, reason, attention)
            order by key
            on conflict (key) do nothing",
            &shared.keys,
            &firsts as &[Option<Vec<u8>>],
            &seconds as &[Option<Vec<u8>>],
            &first_models as &[Option<String>],
            &second_models as &[Option<String>],
            &prompts as &[Option<String>],
            &shared.x as &[Option<i32>],
            &shared.y as &[Option<i32>],
            &shared.width as &[Option<i32>],
            &shared.height as &[Option<i32>],
            &shared.aspects,
            &shared.judges,
            &shared.raters,
            &shared.variants,
            &shown,
            &choices,
            &reasons,
            &shared.attention as &[Option<bool>],
            import,
            job
        )
        .execute(&mut **tx)
        .await
        .context("write verdicts")?
        .rows_affected();
        let differing = sqlx::query_scalar!(
            "select nth as \"nth!\"
            from unnest($1::bytea[], $2::text[], $3::bool[]) with ordinality as fresh (key, choice, attention, nth)
            join verdict using (key)
            where verdict.choice <> fresh.choice or verdict.attention is distinct from fresh.attention
            order by nth",
            &shared.keys,
            &choices,
            &shared.attention as &[Option<bool>],
        )
        .fetch_all(&mut **tx)
        .await
        .context("compare with the verdicts that exist")?;
        added.add(piece, verdicts.len(), n_new, &differing)?;
    }
    Ok(added)
}

impl Added {
    fn add(&mut self, piece: usize, n: usize, n_new: u64, differing: &[i64]) -> anyhow::Result<()> {
        let n_new = usize::try_from(n_new)?;
        self.n_new += n_new;
        self.n_known += (n - n_new).saturating_sub(differing.len());
        for nth in differing {
            self.differing.push(piece * PIECE + usize::try_from(*nth)? - 1);
        }
        Ok(())
    }
}
