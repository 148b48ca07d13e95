//! The queue on a real Postgres.

mod claims;
mod control;
mod edges;
mod fencing;
mod sharing;
mod tries;
