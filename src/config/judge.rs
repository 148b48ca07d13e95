//! Which machine judges are asked, and with which key: from the environment alone, never from a sweep.

use std::time::Duration;

use anyhow::{Context, ensure};
use url::Url;

use super::Secret;

/// OpenAI's own address.
const OPENAI: &str = "https://api.openai.com/v1";
/// How many requests a worker has under way at a time, unless `JOBCTL_ASKS` says otherwise.
const AT_ONCE: usize = 4;
/// The most of them.
const MOST_AT_ONCE: usize = 64;
/// How long an answer may take, unless `JOBCTL_OPENAI_TIMEOUT_MS` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(180);

/// An endpoint that speaks as OpenAI's does, and how it is asked.
#[derive(Clone, Debug)]
pub struct JudgeSettings {
    /// `JOBCTL_OPENAI_URL`, without a slash at its end; OpenAI's own where there is only a key.
    pub url: String,
    /// `JOBCTL_OPENAI_KEY`, else, for OpenAI's own address, `OPENAI_API_KEY`; endpoints of one's own may need none.
    pub key: Option<Secret>,
    /// So many requests are under way at a time: `JOBCTL_ASKS`.
    pub at_once: usize,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl JudgeSettings {
    /// Reads them; none where neither an address nor a key is given: then nothing is asked.
    ///
    /// # Errors
    /// An address that is none, or has a key in it; a number that is none.
    pub(super) fn from_env(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<Self>> {
        let url = variable("JOBCTL_OPENAI_URL");
        // OpenAI's key is for OpenAI alone.
        let theirs = || variable("OPENAI_API_KEY").filter(|_| url.is_none());
        let key = variable("JOBCTL_OPENAI_KEY").or_else(theirs).map(Secret::new);
        if key.is_none() && url.is_none() {
            return Ok(None);
        }
        let url = plain_url(url.as_deref().unwrap_or(OPENAI)).context("JOBCTL_OPENAI_URL")?;
        let at_once = match variable("JOBCTL_ASKS") {
            Some(text) => {
                let n = text.parse().ok().filter(|it| (1..=MOST_AT_ONCE).contains(it));
                n.with_context(|| format!("JOBCTL_ASKS is `{text}`, not a whole number from 1 to {MOST_AT_ONCE}"))?
            }
            None => AT_ONCE,
        };
        let timeout = super::milliseconds("JOBCTL_OPENAI_TIMEOUT_MS", TIMEOUT)?;
        Ok(Some(Self { url, key, at_once, timeout }))
    }
}

impl JudgeSettings {
    /// Whether a key goes over the network where others may read it.
    pub fn tells_its_key(&self) -> bool {
        let here = ["localhost", "127.0.0.1", "[::1]"];
        let host = Url::parse(&self.url).ok().and_then(|it| it.host_str().map(str::to_owned)).unwrap_or_default();
        self.key.is_some() && self.url.starts_with("http://") && !here.contains(&host.as_str())
    }
}

/// An endpoint's address as it is compared: without a slash at its end.
///
/// # Errors
/// It is none of http or https, or has a user, a password, a query or a fragment.
pub fn plain_url(text: &str) -> anyhow::Result<String> {
    let url: Url = text.trim().parse().map_err(|_| anyhow::anyhow!("that is no address; it is like {OPENAI}"))?;
    // Nothing of the text is shown where it may hold a key.
    ensure!(url.username().is_empty() && url.password().is_none(), "an endpoint's address takes no key");
    ensure!(matches!(url.scheme(), "http" | "https"), "an endpoint's address begins with https:// or http://");
    ensure!(url.query().is_none() && url.fragment().is_none(), "an endpoint's address takes no `?` and no `#`");
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::{JudgeSettings, plain_url};

    fn read(pairs: &[(&str, &str)]) -> anyhow::Result<Option<JudgeSettings>> {
        JudgeSettings::from_env(|name| pairs.iter().find(|it| it.0 == name).map(|it| it.1.to_owned()))
    }

    #[test]
    fn nothing_is_asked_without_an_address_and_a_key() {
        assert!(read(&[]).unwrap().is_none());
        let settings = read(&[("OPENAI_API_KEY", "a")]).unwrap().unwrap();
        assert_eq!(settings.url, "https://api.openai.com/v1");
        let pairs =
            [("OPENAI_API_KEY", "a"), ("JOBCTL_OPENAI_KEY", "b"), ("JOBCTL_OPENAI_URL", "http://gpu-7:8000/v1/")];
        let settings = read(&pairs).unwrap().unwrap();
        assert_eq!((settings.url.as_str(), settings.key.as_ref().unwrap().reveal()), ("http://gpu-7:8000/v1", "b"));
        let pairs = [("OPENAI_API_KEY", "planted"), ("JOBCTL_OPENAI_URL", "http://gpu-7:8000/v1")];
        assert!(read(&pairs).unwrap().unwrap().key.is_none(), "another endpoint does not get OpenAI's key");
        assert!(!format!("{:?}", read(&[("OPENAI_API_KEY", "planted")])).contains("planted"));
        assert!(read(&[("OPENAI_API_KEY", "a"), ("JOBCTL_ASKS", "0")]).is_err());
    }

    #[test]
    fn addresses_with_keys_are_refused_and_not_shown() {
        for wrong in
            ["api.openai.com", "ftp://x/v1", "https://me:secret@x/v1", "https://x/v1?key=secret", "https://x/#secret"]
        {
            let error = plain_url(wrong).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
