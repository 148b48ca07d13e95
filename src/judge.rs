//! Machines that judge and caption: what they are asked, over the wire, what it costs, and what their answers mean.

pub mod client;
pub mod cost;
pub mod parse;
pub mod prompts;
pub mod reply;
pub mod request;
mod text;
pub mod weigh;
