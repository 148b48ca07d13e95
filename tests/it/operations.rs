//! Watching and keeping a running system: metrics, logs, the live view, retention, the files that deploy it.
