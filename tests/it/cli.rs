//! The command line as people and scripts see it.

mod database;
mod enqueue;
mod generate;
mod json;
mod words;
