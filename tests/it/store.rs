//! The store: a folder or a real S3, what is written, verified, made again and swept up.

mod places;
mod remote;
mod sweep_up;
