//! Whether leases are checked. They are; a test of the tests takes the check out, in debug builds alone.

use std::sync::atomic::{AtomicBool, Ordering};

static DOWN: AtomicBool = AtomicBool::new(false);

/// Takes the check out, for the rest of this process's life. Nothing but a test that must notice may do this.
#[cfg(debug_assertions)]
pub fn take_down() {
    tracing::error!("leases are not checked any more, for a test");
    DOWN.store(true, Ordering::Relaxed);
}

/// Whether the check is out.
pub(super) fn is_down() -> bool {
    cfg!(debug_assertions) && DOWN.load(Ordering::Relaxed)
}
