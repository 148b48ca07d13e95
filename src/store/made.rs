//! What models have made: artifacts of jobs by their keys, how pictures were made, and where packages lie.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use anyhow::{Context, bail};
use sqlx::PgPool;
use sqlx::types::Json;

use crate::job::task::Picture;
use crate::job::task::making::{Decode, Latent, Part, Reconstruct};
use crate::job::{Hash, JobId};
use crate::queue::Tx;
use crate::sweep::Inventory;

/// An artifact that a job has made.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// The hash of its bytes.
    pub hash: Hash,
    /// How many they are.
    pub n_bytes: u64,
    /// Its media type.
    pub media: &'static str,
}

/// Writes that a job has made an artifact, in the transaction that ends the job. `n_cut` says how many tokens of a
/// prompt the encoders' limits cut off.
///
/// # Errors
/// Postgres is out of reach.
pub async fn record_artifact(
    tx: &mut Tx<'_>,
    job: JobId,
    key: &Hash,
    artifact: &Artifact,
    n_cut: Option<[usize; 3]>,
) -> anyhow::Result<()> {
    sqlx::query!(
        "insert into artifact (hash, bytes, media) values ($1, $2, $3) on conflict do nothing",
        &artifact.hash.0[..],
        i64::try_from(artifact.n_bytes)?,
        artifact.media
    )
    .execute(&mut **tx)
    .await
    .context("write the artifact")?;
    let n_cut: Option<Vec<i32>> = n_cut.map(|it| it.iter().map(|n| i32::try_from(*n).unwrap_or(i32::MAX)).collect());
    sqlx::query!(
        "insert into job_output (key, job_id, artifact, n_cut) values ($1, $2, $3, $4)
        on conflict (key) do update
        set job_id = excluded.job_id, artifact = excluded.artifact, n_cut = excluded.n_cut, made_at = now()",
        &key.0[..],
        job.0,
        &artifact.hash.0[..],
        n_cut.as_deref()
    )
    .execute(&mut **tx)
    .await
    .context("write what the job has made")?;
    Ok(())
}

/// Writes how a picture was generated, in the transaction that ends the job that decoded it.
///
/// # Errors
/// Postgres is out of reach.
pub async fn record_generation(
    tx: &mut Tx<'_>,
    job: JobId,
    key: &Hash,
    task: &Decode,
    artifact: &Hash,
    size: (u32, u32),
) -> anyhow::Result<()> {
    let of = &task.settings;
    sqlx::query!(
        "insert into generation (content, artifact, width, height, prompt, negative, seed, steps, guidance, t5_tokens,
            dtype, partition, format, text_hash, denoiser_hash, vae_hash, n_cut, job_id)
        values ($1, $2, $3, $4, coalesce((select text from caption where key = $19), $5), $6, $7, $8, $9, $10, $11, $12, $13,
            $14, $15, $16, coalesce((select n_cut from job_output where key = $17), '{}'), $18)
        on conflict (content) do update set artifact = excluded.artifact, job_id = excluded.job_id, made_at = now()",
        &key.0[..],
        &artifact.0[..],
        i32::try_from(size.0)?,
        i32::try_from(size.1)?,
        without_nul(&of.prompt),
        of.negative.as_deref().map(without_nul),
        i64::try_from(of.seed)?,
        i32::try_from(of.steps)?,
        of.guidance,
        i32::try_from(of.t5_tokens)?,
        task.dtype.word(),
        task.partition.word(),
        task.format.word(),
        &of.text.0[..],
        &of.denoiser.0[..],
        &task.model.0[..],
        &of.encoded.0[..],
        job.0,
        of.caption.map(|it| it.0.to_vec())
    )
    .execute(&mut **tx)
    .await
    .context("write how the picture was generated")?;
    Ok(())
}

/// Postgres's text holds no NUL.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Writes how a picture was reconstructed, in the transaction that ends its job.
///
/// # Errors
/// Postgres is out of reach.
pub async fn record_reconstruction(
    tx: &mut Tx<'_>,
    job: JobId,
    key: &Hash,
    task: &Reconstruct,
    artifact: &Hash,
    size: (u32, u32),
) -> anyhow::Result<()> {
    let (latent, seed) = match task.latent {
        Latent::Mean => ("mean", None),
        Latent::Sample { seed } => ("sample", Some(i64::try_from(seed)?)),
    };
    sqlx::query!(
        "insert into reconstruction (content, artifact, width, height, original, latent, seed, dtype, partition, vae_hash, job_id)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        on conflict (content) do update set artifact = excluded.artifact, job_id = excluded.job_id, made_at = now()",
        &key.0[..],
        &artifact.0[..],
        i32::try_from(size.0)?,
        i32::try_from(size.1)?,
        Json(&task.picture) as _,
        latent,
        seed,
        task.dtype.word(),
        task.partition.word(),
        &task.model.0[..],
        job.0
    )
    .execute(&mut **tx)
    .await
    .context("write how the picture was reconstructed")?;
    Ok(())
}

/// What a job has made, and its number.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// The key of the job's work.
    pub key: Hash,
    /// The job.
    pub job: JobId,
    /// The artifact.
    pub artifact: Hash,
}

/// What the jobs of these keys have made, as far as they have.
///
/// # Errors
/// Postgres is out of reach.
pub async fn outputs(pool: &PgPool, keys: &[Hash]) -> anyhow::Result<Vec<Output>> {
    let keys: Vec<Vec<u8>> = keys.iter().map(|it| it.0.to_vec()).collect();
    let rows = sqlx::query!("select key, job_id, artifact from job_output where key = any($1)", &keys)
        .fetch_all(pool)
        .await
        .context("look for what jobs have made")?;
    rows.into_iter()
        .map(|row| Ok(Output { key: row.key.try_into()?, job: JobId(row.job_id), artifact: row.artifact.try_into()? }))
        .collect()
}

/// What is known of how a picture was made.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// Of generated pictures: the prompt, and the tokens of it that the encoders' limits cut off.
    pub prompts: HashMap<Hash, (String, Vec<u32>)>,
    /// Of reconstructed pictures: the original.
    pub originals: HashMap<Hash, Picture>,
}

/// How the pictures of these contents were made, as far as they have been.
///
/// # Errors
/// Postgres is out of reach.
pub async fn origins(pool: &PgPool, contents: &[Hash]) -> anyhow::Result<Origins> {
    let keys: Vec<Vec<u8>> = contents.iter().map(|it| it.0.to_vec()).collect();
    let mut origins = Origins::default();
    let rows = sqlx::query!("select content, prompt, n_cut from generation where content = any($1)", &keys)
        .fetch_all(pool)
        .await
        .context("read how pictures were generated")?;
    for row in rows {
        let n_cut = row.n_cut.into_iter().map(|it| u32::try_from(it).unwrap_or_default()).collect();
        origins.prompts.insert(row.content.try_into()?, (row.prompt, n_cut));
    }
    let rows = sqlx::query!(
        "select content, original as \"original: Json<Picture>\" from reconstruction where content = any($1)",
        &keys
    )
    .fetch_all(pool)
    .await
    .context("read how pictures were reconstructed")?;
    for row in rows {
        origins.originals.insert(row.content.try_into()?, row.original.0);
    }
    Ok(origins)
}

/// Where a part of a package was seen.
#[derive(Clone, Debug)]
pub struct PartAt {
    /// Its package's folder then.
    pub root: PathBuf,
    /// The package's name in the sweep.
    pub name: String,
    /// Which part.
    pub part: Part,
}

/// Where the part of this hash was seen, the latest first.
///
/// # Errors
/// Postgres is out of reach.
pub async fn part_at(pool: &PgPool, hash: &Hash) -> anyhow::Result<Vec<PartAt>> {
    let rows = sqlx::query!(
        "select root, name, part from package_part where hash = $1 order by seen_at desc, root",
        &hash.0[..]
    )
    .fetch_all(pool)
    .await
    .context("find the package")?;
    rows.into_iter()
        .map(|row| {
            let Some(part) = Part::of_word(&row.part) else {
                bail!("`{}` is no part of a package", row.part);
            };
            Ok(PartAt { root: PathBuf::from(OsString::from_vec(row.root)), name: row.name, part })
        })
        .collect()
}

/// Keeps where a sweep's packages and networks are.
///
/// # Errors
/// Postgres is out of reach.
pub async fn save_parts(tx: &mut Tx<'_>, inventory: &Inventory) -> anyhow::Result<()> {
    let packages = inventory.packages.iter();
    let packages = packages.flat_map(|(name, it)| it.parts.iter().map(move |part| (name, &it.root, *part.0, *part.1)));
    let networks = inventory.networks.iter().map(|(name, it)| (name, &it.root, Part::Network, it.hash));
    for (name, root, part, hash) in packages.chain(networks) {
        sqlx::query!(
            "insert into package_part (hash, root, name, part) values ($1, $2, $3, $4)
                on conflict (hash, root) do update set name = excluded.name, seen_at = now()",
            &hash.0[..],
            root.as_os_str().as_bytes(),
            name,
            part.word()
        )
        .execute(&mut **tx)
        .await
        .context("keep where the packages are")?;
    }
    Ok(())
}
