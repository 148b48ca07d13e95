//! The worker: an agent that talks to the database, and slots that do the work and may die.

pub mod agent;
pub mod child;
pub mod machine;
pub mod pipe;
pub mod slot;
mod turn;
