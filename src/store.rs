//! TBD
pub mod findings;
