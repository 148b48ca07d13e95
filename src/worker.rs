//! The worker: an agent that talks to the database, and slots that do the work and may die.

pub mod agent;
mod ask;
pub mod batch;
pub mod child;
pub mod death;
pub mod desk;
pub mod devices;
mod family;
pub mod gpus;
pub mod health;
mod inputs;
mod keeper;
mod log;
pub mod machine;
mod notes;
pub mod pipe;
mod results;
mod scratch;
pub mod slot;
mod steady;
mod strays;
mod turn;
pub mod vitals;
mod wish;
mod words;
