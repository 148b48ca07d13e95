//! jobctl makes and judges ultra-high-resolution images in batches.
//!
//! Data flows one way: sweep → plan → queue → worker → task → store → stats → report → mail.
//! A module uses only modules above it in this list; a test holds that rule.

pub mod config;
pub mod job;

pub mod image;
pub mod gpu;
pub mod models;
pub mod train;
pub mod metrics;
pub mod stats;
pub mod labels;
pub mod judge;

pub mod database;
pub mod sweep;
pub mod plan;
pub mod queue;
pub mod store;
pub mod report;
pub mod mail;

pub mod tasks;
pub mod worker;
pub mod cli;
