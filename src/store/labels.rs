//! Ratings and verdicts in the tables: written once, read for a sweep.

mod read;
mod write;

pub use read::{Labels, Moment, Said, all, of_sweep};
pub use write::{Added, From, Import, begin_import, write_ratings, write_verdicts};
