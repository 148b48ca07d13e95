//! Ratings and verdicts in the tables: written once, read for a sweep.

mod find;
mod read;
mod write;

pub use find::{Imported, Place, imports, pictures_by_prefix, pictures_of_files, places};
pub use read::{Labels, Moment, Said, all, of_sweep};
pub use write::{Added, From, Import, begin_import, write_ratings, write_verdicts};
