//! The block that rehearses a cluster without models.

use std::sync::Arc;

use crate::job::needs::Needs;
use crate::job::task::rehearse::Fault;

/// So many rehearsals: work of no use that takes time and makes files, so that workers can be tried out.
#[derive(Clone, PartialEq, Debug)]
pub struct Rehearse {
    /// The block's name.
    pub name: String,
    /// How many jobs.
    pub n: u32,
    /// How long each sleeps.
    pub seconds: f64,
    /// In so many steps.
    pub steps: u32,
    /// The size of the file that each makes; 0 makes none.
    pub bytes: u64,
    /// How many scores each has.
    pub scores: u32,
    /// After how many steps each saves a checkpoint; none never does.
    pub checkpoint_every: Option<u32>,
    /// The first job's seed; each next one has the next.
    pub seed: u64,
    /// What each asks of a slot.
    pub needs: Arc<Needs>,
    /// How each goes wrong.
    pub fault: Option<Fault>,
}
