//! The store: sole owner of the result tables and of the artifacts.

pub mod artifact;
pub mod asking;
pub mod captions;
pub mod checkpoint;
pub mod effort;
pub mod files;
pub mod findings;
pub mod labels;
pub mod load;
pub mod made;
pub mod mark;
pub mod nights;
pub mod outbox;
pub mod read;
pub mod check;
pub mod record;
pub mod rehearsal;
pub mod retention;
pub mod sweep_up;
pub mod training;
pub mod upload;
