//! What `[[rehearse]]` blocks come to: a source each, and a job for each cell of it.

use std::collections::HashMap;

use super::build::place;
use super::{Cell, Job, Plan, Source};
use crate::job::Hash;
use crate::job::task::rehearse::Rehearse;
use crate::job::task::{Picture, Task};
use crate::sweep::Sweep;

/// Adds the sources, cells and jobs of every block.
pub(super) fn add(sweep: &Sweep, plan: &mut Plan, by_key: &mut HashMap<Hash, usize>) {
    for block in &sweep.rehearse {
        let source = plan.sources.len();
        plan.sources.push(Source { name: block.name.clone(), model: None, rung: None, making: None, set: None });
        for idx in 0..u64::from(block.n) {
            let task = Task::Rehearse(Rehearse {
                seed: block.seed.wrapping_add(idx),
                seconds: block.seconds,
                steps: block.steps,
                bytes: block.bytes,
                scores: block.scores,
                checkpoint_every: block.checkpoint_every,
                fault: block.fault,
                ledger: None,
            });
            let key = task.key();
            let picture = Picture::of_job(key).key();
            let subject = Some(picture);
            let job = Job {
                key,
                task,
                subject,
                reference: None,
                affinity: None,
                megapixels: 0.0,
                needs: block.needs.clone(),
            };
            let job = Some(place(&mut plan.jobs, by_key, job));
            plan.cells.push(Cell {
                source,
                sample: idx.to_string(),
                key: picture,
                jobs: job.into_iter().collect(),
                path: None,
                caption: None,
            });
        }
    }
}
