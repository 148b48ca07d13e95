//! What may be wrong with an artifact, or with the store.

use crate::job::Hash;

/// Why an artifact cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The store answers, and does not have it.
    #[error("the artifact {hash} is not in the store {store}")]
    Missing {
        /// Which.
        hash: Hash,
        /// Where it should be.
        store: String,
    },
    /// Its bytes are no longer those of its hash, twice in a row.
    #[error("the artifact {hash} in the store {store} is damaged: its bytes have another hash")]
    Damaged {
        /// Which.
        hash: Hash,
        /// Where it is.
        store: String,
    },
    /// The store does not answer, or not with sense: the machine's fault, which may pass.
    #[error("the store {store} cannot be used: {source:#}")]
    Unreachable {
        /// The store.
        store: String,
        /// What it said.
        source: anyhow::Error,
    },
}

impl Fault {
    /// Whether the artifact is not to be had any more, so that it must be made again.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Damaged { .. })
    }
}
