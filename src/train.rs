//! Fine-tuning: what is compared, its gradients, and what they do to the weights.

pub mod adamw;
pub mod dwt;
pub mod lora;
pub mod objective;
pub mod optim;
pub mod parameters;
pub mod random;
pub mod timesteps;
pub mod transformer;
pub mod wlf;
