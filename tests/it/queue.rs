//! The queue on a real Postgres.

mod claims;
mod control;
mod edges;
mod fencing;
mod histories;
mod sharing;
mod tries;
