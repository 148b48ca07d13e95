//! What must not be possible: rights that a role lacks, secrets that are seen, strangers' certificates, hostile names.

mod hostile;
mod roles;
mod secrets;
mod tls;
