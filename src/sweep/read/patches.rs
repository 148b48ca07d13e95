//! Reads `[[patches]]` blocks.

use super::super::block::Block;
use super::super::patches::Patches;
use super::check_keys;
use super::names::Names;

/// The keys of `[[patches]]`.
pub(super) const KEYS: &[&str] = &["name", "of", "boxes"];

/// The block, with anything in the place of what is wrong; its faults know that.
pub(super) fn patches(block: &Block, names: &Names) -> Patches {
    check_keys(block, KEYS);
    let of =
        block.required_text("of", "\"NAME\"").inspect(|it| names.check_pictures(it, "patches are of", block.faults));
    Patches {
        name: block.required_text("name", "\"NAME\"").unwrap_or_default().value,
        of: of.unwrap_or_default().value,
        boxes: block.required_text("boxes", "\"ratings.csv\"").unwrap_or_default().value,
    }
}
