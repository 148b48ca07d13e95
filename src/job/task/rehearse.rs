//! A rehearsal: work of no use that takes time, makes a file and scores, saves checkpoints and dies as it is told,
//! so that workers can be tried out without a model.

use serde::{Deserialize, Serialize};

/// Sleeps, makes a file of seeded bytes and scores, and says so in a ledger.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rehearse {
    /// Draws the bytes and the scores; rehearsals that differ in nothing else are different work.
    pub seed: u64,
    /// How long it sleeps in all.
    pub seconds: f64,
    /// In so many steps, at least one.
    pub steps: u32,
    /// The size of the file that it makes; 0 makes none.
    pub bytes: u64,
    /// How many scores it has; 0 has none, and no picture either.
    pub scores: u32,
    /// Saves a checkpoint after each so many steps; none never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<u32>,
    /// How it dies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// A file that a line is appended to for each of its effects. Sweeps cannot set it: only who writes tasks can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<String>,
}

/// When a rehearsal goes wrong, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// How.
    pub how: How,
    /// Before this step, counted from 0.
    #[serde(default)]
    pub step: u32,
    /// In so many attempts, the first ones; without it in all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
}

/// How a rehearsal goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Its process is killed (SIGKILL).
    Kill,
    /// Its process aborts (SIGABRT).
    Abort,
    /// Its process exits with status 3.
    Exit,
    /// It sleeps for ever and says nothing.
    Hang,
    /// It asks for more memory than there is.
    Oom,
    /// It reports that its GPU's memory ran out.
    GpuOom,
    /// It fails for its own fault.
    Fail,
    /// It fails for the machine's fault.
    Retry,
    /// It panics.
    Panic,
    /// It prints without end.
    Flood,
    /// It leaves a process behind that has left its process group.
    Daemon,
}

impl How {
    /// Every way, with the word that sweeps use.
    pub const ALL: [(&'static str, Self); 11] = [
        ("kill", Self::Kill),
        ("abort", Self::Abort),
        ("exit", Self::Exit),
        ("hang", Self::Hang),
        ("oom", Self::Oom),
        ("gpu_oom", Self::GpuOom),
        ("fail", Self::Fail),
        ("retry", Self::Retry),
        ("panic", Self::Panic),
        ("flood", Self::Flood),
        ("daemon", Self::Daemon),
    ];
}
