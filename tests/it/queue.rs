//! The queue on a real Postgres.

mod batch;
mod bulk;
mod claims;
mod control;
mod edges;
mod fencing;
mod histories;
mod limits;
mod needs;
mod order;
mod remake;
mod rescue;
mod sharing;
mod tries;
mod wake;
mod why;
