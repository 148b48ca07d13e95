//! Fine-tuning: what is compared, its gradients, and what they do to the weights.

pub mod adamw;
pub mod autoencoder;
pub mod checkpoint;
pub mod data;
pub mod dwt;
pub mod exchange;
pub mod feed;
pub mod lora;
pub mod objective;
pub mod optim;
mod order;
pub mod output;
pub mod parameters;
pub mod part;
pub mod pictures;
pub mod random;
pub mod session;
pub mod timesteps;
pub mod trainer;
pub mod transformer;
pub mod wlf;
