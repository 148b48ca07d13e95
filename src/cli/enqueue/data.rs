//! What is left out of the pictures that a sweep trains on, said before anything is enqueued.

use std::path::PathBuf;

use crate::cli::lines::plain;
use crate::sweep::{Inventory, Sweep};

/// So many files are named.
const MOST_NAMED: usize = 5;

/// Says which files of each folder are not trained on, and why.
pub(super) fn tell_left_out(sweep: &Sweep, inventory: &Inventory) {
    for (block, data) in sweep.finetune.iter().zip(&inventory.data) {
        let mut left_out: Vec<(PathBuf, String)> = data.left_out.clone();
        // A picture that is too small for one point of the block may be large enough for another.
        let least = block.points.iter().map(|it| it.min_side).min().unwrap_or(0);
        let small = data.pictures.iter().filter(|it| it.size.0.min(it.size.1) < least);
        left_out.extend(small.map(|it| {
            let (width, height) = it.size;
            (it.path.clone(), format!("{width}x{height} is smaller than {least} pixels"))
        }));
        if left_out.is_empty() {
            continue;
        }
        let n = left_out.len();
        let files = if n == 1 { "file" } else { "files" };
        eprintln!("note: `{}` leaves {n} {files} of `{}` out", plain(&block.name), plain(&block.data));
        for (path, why) in left_out.iter().take(MOST_NAMED) {
            eprintln!("  {}: {}", plain(&path.display().to_string()), plain(why));
        }
        if n > MOST_NAMED {
            eprintln!("  and {} more", n - MOST_NAMED);
        }
    }
}
