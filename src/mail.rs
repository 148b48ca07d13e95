//! Mails: what one says, in HTML and in plain text, its charts, and how it is sent once.

pub mod chart;
pub mod compose;
mod folder;
mod grids;
pub mod letter;
pub mod send;
mod plain;
mod smtp;
