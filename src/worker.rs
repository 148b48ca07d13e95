//! The worker: an agent that talks to the database, and slots that do the work and may die.

pub mod agent;
pub mod child;
pub mod devices;
pub mod health;
mod inputs;
pub mod machine;
pub mod pipe;
mod results;
mod scratch;
pub mod slot;
mod turn;
pub mod vitals;
