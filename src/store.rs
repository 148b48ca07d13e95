//! The store: sole owner of the result tables and of the artifacts.

pub mod artifact;
pub mod checkpoint;
pub mod files;
pub mod findings;
pub mod made;
pub mod read;
pub mod record;
pub mod rehearsal;
