//! Asking over HTTP: one request, one answer, or what went wrong and what may be done about it.

use std::time::Duration;

use anyhow::Context;
use jiff::fmt::rfc2822;
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, RETRY_AFTER};
use serde_json::Value;

use super::reply::error_of;
use super::request::PATH;
use crate::config::JudgeSettings;

/// The most bytes of an answer that are read. What is longer is an answer too, one that nobody can use.
const MOST_BYTES: usize = 32 << 20;
/// The longest time that an endpoint may ask to be left alone.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// An endpoint that is asked.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    settings: JudgeSettings,
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Trouble {
    /// The request never went out: nothing was asked.
    #[error("cannot reach {0}")]
    Unsent(String),
    /// It went out, and no whole answer came back: nobody knows what became of it.
    #[error("the answer was lost: {0}")]
    Lost(String),
    /// The endpoint wants to be asked later: too many requests, or it has a bad moment.
    #[error("the endpoint answers {status}: {error}")]
    Later {
        /// The status.
        status: u16,
        /// What it says.
        error: String,
        /// How long it wants to be left alone, where it says so.
        wait: Option<Duration>,
    },
    /// The key is wrong, or may not do this, or its money is spent: another worker's may do.
    #[error("the endpoint answers {status}: {error}")]
    Denied {
        /// The status.
        status: u16,
        /// What it says.
        error: String,
    },
    /// The request itself is refused: asking again cannot help.
    #[error("the endpoint answers {status}: {error}")]
    Refused {
        /// The status.
        status: u16,
        /// What it says.
        error: String,
    },
}

impl Client {
    /// An endpoint. Redirections are not followed: the key is for this address.
    ///
    /// # Errors
    /// This machine's certificates cannot be read.
    pub fn new(settings: JudgeSettings) -> anyhow::Result<Self> {
        // Refused if there is one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(settings.timeout.min(Duration::from_secs(20)))
            .timeout(settings.timeout)
            .user_agent(concat!("jobctl/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("set up what asks judges")?;
        Ok(Self { http, settings })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.settings.url
    }

    /// How it is asked.
    pub fn settings(&self) -> &JudgeSettings {
        &self.settings
    }

    /// Sends a request. Returns the body of its answer, whatever that is.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn ask(&self, body: &Value) -> Result<Vec<u8>, Trouble> {
        let url = format!("{}/{PATH}", self.settings.url);
        let mut request = self.http.post(&url).header(CONTENT_TYPE, "application/json").body(body.to_string());
        if let Some(key) = &self.settings.key {
            let mut value = reqwest::header::HeaderValue::try_from(format!("Bearer {}", key.reveal()))
                .map_err(|_| Trouble::Denied { status: 0, error: "the key holds signs that no key may".to_owned() })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let mut response = request.send().await.map_err(|error| {
            let said = told(&error);
            if error.is_connect() || error.is_builder() { Trouble::Unsent(said) } else { Trouble::Lost(said) }
        })?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| match status {
            it if it.is_success() => Trouble::Lost(told(&error)),
            it => Trouble::Later { status: it.as_u16(), error: told(&error), wait: wait(&headers) },
        })? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MOST_BYTES {
                break;
            }
        }
        if status.is_success() {
            return Ok(bytes);
        }
        Err(trouble(status, &headers, &String::from_utf8_lossy(&bytes)))
    }
}

/// An error with its causes, without the address's query.
fn told(error: &reqwest::Error) -> String {
    let mut said = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        said.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    if error.is_timeout() { format!("it took too long ({said})") } else { said }
}

/// What an answer that is none means.
fn trouble(status: StatusCode, headers: &HeaderMap, body: &str) -> Trouble {
    let (error, code) = error_of(body);
    let (n, error) = (status.as_u16(), if error.is_empty() { status.to_string() } else { error });
    // Money that is spent comes back with a person, not with time.
    let is_spent = ["insufficient_quota", "billing_hard_limit_reached"].contains(&code.as_str());
    match n {
        401..=403 | 407 => Trouble::Denied { status: n, error },
        429 if is_spent => Trouble::Denied { status: n, error },
        408 | 409 | 425 | 429 | 500..=599 => Trouble::Later { status: n, error, wait: wait(headers) },
        _ => Trouble::Refused { status: n, error },
    }
}

/// How long an endpoint wants to be left alone: `Retry-After` in seconds or as a date, or OpenAI's `retry-after-ms`.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(|it| it.trim().to_owned());
    let date = |text: &str| rfc2822::parse(text).ok().map(|it| it.timestamp());
    let seconds = |it: f64| Duration::try_from_secs_f64(it.max(0.0)).ok();
    let exact = text(HeaderName::from_static("retry-after-ms")).and_then(|it| seconds(it.parse::<f64>().ok()? / 1e3));
    let said = exact.or_else(|| {
        let after = text(RETRY_AFTER)?;
        if let Ok(it) = after.parse::<f64>() {
            return seconds(it);
        }
        // By the endpoint's own clock where it tells it: ours may be wrong.
        let now = text(DATE).and_then(|it| date(&it)).unwrap_or_else(jiff::Timestamp::now);
        seconds(date(&after)?.duration_since(now).as_secs_f64())
    });
    said.map(|it| it.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn seconds(pairs: &[(&'static str, &'static str)]) -> Option<f64> {
        wait(&headers(pairs)).map(|it| it.as_secs_f64())
    }

    #[test]
    fn an_endpoint_says_in_three_ways_how_long_it_wants_to_be_left_alone() {
        assert_eq!(seconds(&[("retry-after", "7")]), Some(7.0));
        assert_eq!(seconds(&[("retry-after", "0.25")]), Some(0.25));
        assert_eq!(seconds(&[("retry-after", "7"), ("retry-after-ms", "1500")]), Some(1.5));
        let (now, then) = ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:30 GMT");
        assert_eq!(seconds(&[("date", now), ("retry-after", then)]), Some(30.0));
        assert_eq!(seconds(&[("date", then), ("retry-after", now)]), Some(0.0));
        assert_eq!(seconds(&[("retry-after", then)]), Some(0.0), "that was long ago");
        assert_eq!(seconds(&[("retry-after", "1e30")]), None);
        assert_eq!(seconds(&[("retry-after", "99999999")]), Some(3600.0));
        assert_eq!(seconds(&[("retry-after", "soon")]), None);
        assert_eq!(seconds(&[]), None);
    }

    #[test]
    fn whose_fault_it_is_follows_from_status_and_code() {
        let of = |status: u16, body: &str| trouble(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body);
        for status in [408, 429, 500, 502, 503, 504, 529] {
            assert!(matches!(of(status, ""), Trouble::Later { .. }), "{status}");
        }
        for status in [400, 404, 413, 422, 301] {
            assert!(matches!(of(status, ""), Trouble::Refused { .. }), "{status}");
        }
        assert!(matches!(of(401, "{}"), Trouble::Denied { .. }));
        let spent = r#"{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}"#;
        assert!(matches!(of(429, spent), Trouble::Denied { .. }));
    }
}
