//! The paper's tables with ours in their form.

pub(super) mod published;
mod rows;

pub(super) use self::rows::tables;
