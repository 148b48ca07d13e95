//! How long a worker waits for Postgres: a connection that the network has forgotten never answers and never fails.

use std::time::Duration;

use anyhow::anyhow;
use tokio::time::timeout;

/// What `action` comes to, or an error if that takes longer than `patience`. What Postgres has of it may happen all the same.
///
/// # Errors
/// Those of `action`, and that it takes too long.
pub async fn within<T>(patience: Duration, action: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    match timeout(patience, action).await {
        Ok(done) => done,
        Err(_) => Err(anyhow!("Postgres has not answered for {} s", patience.as_secs_f64())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::within;

    #[tokio::test]
    async fn silence_is_an_error_after_a_while() {
        let error = within::<()>(Duration::from_millis(5), std::future::pending()).await.unwrap_err();
        assert!(error.to_string().contains("not answered"), "{error}");
    }
}
