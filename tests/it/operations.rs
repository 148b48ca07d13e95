//! Watching and keeping a running system: metrics, logs, the live view, retention, the files that deploy it.

mod deploy;
mod exposition;
mod health;
mod logs;
mod months;
mod retention;
mod top;
