//! One test binary: everything links once.
#![cfg(test)]

mod chaos;
mod cli;
mod correlate;
mod dataset;
mod gpu;
mod image;
mod judge;
mod labels;
mod mail;
mod making;
mod metrics;
mod models;
mod networks;
mod nights;
mod operations;
mod patches;
mod plan;
mod queue;
mod readme;
mod report;
mod schedule;
mod score;
mod security;
mod stats;
mod store;
mod support;
mod sweep;
mod tidy;
mod train;
mod tuning;
mod worker;
