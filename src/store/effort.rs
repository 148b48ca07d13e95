//! What making pictures took: the time of a step and memory, as the jobs that made them have measured.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context;
use sqlx::PgPool;

use super::findings::{Effort, Image};
use crate::job::Hash;
use crate::job::task::Origin;
use crate::job::task::making::{MEMORY_GIB, STEP_S};

/// Of each generated image, as far as its jobs have measured anything.
///
/// # Errors
/// Postgres is out of reach.
pub async fn of_images(pool: &PgPool, images: &[Image]) -> anyhow::Result<Vec<Effort>> {
    let mut places: HashMap<Hash, Vec<usize>> = HashMap::new();
    for (idx, it) in images.iter().enumerate() {
        if it.picture.origin == Origin::Job && it.picture.steps.is_empty() {
            places.entry(it.picture.content).or_default().push(idx);
        }
    }
    let made: Vec<Vec<u8>> = places.keys().map(|it| it.0.to_vec()).collect();
    let rows = sqlx::query!(
        "select work.content as \"content!\", curve.key = work.content as \"decodes!\", curve.name, curve.value, done.device
        from (
            select generation.content, maker.id, decode(maker.task ->> 'latent', 'hex') as latent
            from generation join every_job as maker on maker.id = generation.job_id
            where generation.content = any($1)
        ) as work
        join curve on curve.key in (work.content, work.latent)
        left join job_key on job_key.key = curve.key
        left join lateral (
            select coalesce(
                (select min(model) from worker_device
                where worker_device.worker_id = attempt.worker_id and worker_device.slot = attempt.slot),
                worker.machine) as device
            from attempt join worker on worker.id = attempt.worker_id
            where attempt.job_id = job_key.job_id and attempt.outcome = 'done'
            order by attempt.lease desc
            limit 1
        ) as done on true
        where curve.value is not null",
        &made
    )
    .fetch_all(pool)
    .await
    .context("read what making the pictures took")?;
    let mut efforts: BTreeMap<usize, Effort> = BTreeMap::new();
    for row in rows {
        let content = Hash::try_from(row.content)?;
        for &image in places.get(&content).into_iter().flatten() {
            let effort = efforts.entry(image).or_insert_with(|| Effort { image, ..Effort::default() });
            match (row.name.as_str(), row.decodes) {
                (STEP_S, false) => effort.step_s = row.value,
                (MEMORY_GIB, false) => effort.denoise_gib = row.value,
                (MEMORY_GIB, true) => effort.decode_gib = row.value,
                _ => continue,
            }
            if !row.decodes {
                effort.device.clone_from(&row.device);
            }
        }
    }
    Ok(efforts.into_values().collect())
}
