//! How mails leave: through a server, or into a folder.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::Secret;

/// The wait before the second try of a mail, unless `JOBCTL_MAIL_RETRY_MS` says otherwise.
const FIRST_WAIT: Duration = Duration::from_secs(60);

/// How mails leave.
#[derive(Clone, Debug)]
pub struct MailSettings {
    /// Where they go; none means that they wait in the outbox.
    pub way: Option<Way>,
    /// Who they are from unless a report says otherwise: `JOBCTL_MAIL_FROM`.
    pub from: Option<String>,
    /// The longest wait before the second try; it doubles from try to try: `JOBCTL_MAIL_RETRY_MS`, a minute.
    pub first_wait: Duration,
}

impl Default for MailSettings {
    fn default() -> Self {
        Self { way: None, from: None, first_wait: FIRST_WAIT }
    }
}

/// Where mails go.
#[derive(Clone, Debug)]
pub enum Way {
    /// A server takes them: `JOBCTL_SMTP_URL`.
    Smtp(Server),
    /// Each is a file `.eml` in this folder: `JOBCTL_MAIL_DIR`.
    Folder(PathBuf),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Smtp(it) => write!(f, "{}:{} ({})", it.host, it.port, it.security.words()),
            Self::Folder(it) => write!(f, "the folder {}", it.display()),
        }
    }
}

/// A mail server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name, which its certificate must have.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How what is said stays between the two.
    pub security: Security,
    /// Who we are, and the password.
    pub login: Option<(String, Secret)>,
    /// A PEM file of certificates that are trusted beside the system's: `JOBCTL_SMTP_CA`.
    pub ca: Option<PathBuf>,
}

/// How a connection is kept private.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Security {
    /// TLS from the first byte.
    Tls,
    /// STARTTLS, without which nothing is sent.
    StartTls,
    /// Not at all.
    Plain,
}

impl Security {
    fn words(self) -> &'static str {
        match self {
            Self::Tls => "TLS",
            Self::StartTls => "STARTTLS",
            Self::Plain => "not encrypted",
        }
    }
}

impl MailSettings {
    /// Reads the variables by name through `variable`.
    ///
    /// # Errors
    /// An address that is none, two ways at once, a password that would travel in the clear.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let ca = variable("JOBCTL_SMTP_CA").map(PathBuf::from);
        let password = variable("JOBCTL_SMTP_PASSWORD").map(Secret::new);
        let server = match variable("JOBCTL_SMTP_URL") {
            Some(url) => Some(server(&url, password, ca).context("read JOBCTL_SMTP_URL")?),
            None => None,
        };
        let way = match (server, variable("JOBCTL_MAIL_DIR")) {
            (Some(_), Some(_)) => bail!("JOBCTL_SMTP_URL and JOBCTL_MAIL_DIR are both set: mails go one way"),
            (Some(server), None) => Some(Way::Smtp(server)),
            (None, folder) => folder.map(|it| Way::Folder(it.into())),
        };
        let first_wait = super::milliseconds("JOBCTL_MAIL_RETRY_MS", FIRST_WAIT)?;
        Ok(Self { way, from: variable("JOBCTL_MAIL_FROM"), first_wait })
    }
}

/// Reads `smtps://USER:PASSWORD@HOST:PORT`, `smtp://…` (STARTTLS) or `smtp://…?tls=none`. No message shows the password.
fn server(text: &str, password: Option<Secret>, ca: Option<PathBuf>) -> anyhow::Result<Server> {
    const FORM: &str = "it looks like smtps://USER@HOST:465 (TLS) or smtp://USER@HOST:587 (STARTTLS)";
    let Ok(url) = Url::parse(text) else { bail!("it is no address: {FORM}") };
    let mut security = match url.scheme() {
        "smtps" => Security::Tls,
        "smtp" => Security::StartTls,
        other => bail!("`{other}` is no way to send mail: {FORM}"),
    };
    for (key, value) in url.query_pairs() {
        match (&*key, &*value) {
            ("tls", "none") if security == Security::StartTls => security = Security::Plain,
            ("tls", "required") => {}
            _ => bail!("`{key}={value}` means nothing; `?tls=none` after smtp:// sends without encryption"),
        }
    }
    ensure!(matches!(url.path(), "" | "/") && url.fragment().is_none(), "there is something after the host: {FORM}");
    let host = url.host_str().filter(|it| !it.is_empty()).with_context(|| format!("it has no host: {FORM}"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let default = match security {
        Security::Tls => 465,
        Security::StartTls => 587,
        Security::Plain => 25,
    };
    let decoded =
        |it: &str| percent_decode_str(it).decode_utf8().map(std::borrow::Cow::into_owned).context("it is not UTF-8");
    let user = decoded(url.username())?;
    let password = match url.password() {
        Some(it) => Some(Secret::new(decoded(it)?)),
        None => password,
    };
    let login = match (user.is_empty(), password) {
        (false, Some(password)) => Some((user, password)),
        (false, None) => bail!("it has a user and no password: JOBCTL_SMTP_PASSWORD says it"),
        (true, Some(_)) => bail!("there is a password and no user: {FORM}"),
        (true, None) => None,
    };
    let is_here = match url.host() {
        Some(Host::Ipv4(it)) => it.is_loopback(),
        Some(Host::Ipv6(it)) => it.is_loopback(),
        _ => host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback()),
    };
    ensure!(
        login.is_none() || security != Security::Plain || is_here,
        "the password would travel in the clear: leave out `?tls=none`"
    );
    Ok(Server { port: url.port().unwrap_or(default), host, security, login, ca })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> anyhow::Result<MailSettings> {
        MailSettings::from_env(|name| pairs.iter().find(|it| it.0 == name).map(|it| it.1.to_owned()))
    }

    fn smtp(pairs: &[(&str, &str)]) -> Server {
        match read(pairs).unwrap().way {
            Some(Way::Smtp(server)) => server,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn addresses_say_how_private_it_is() {
        let check = |url: &str, host: &str, port: u16, security: Security| {
            let server = smtp(&[("JOBCTL_SMTP_URL", url)]);
            assert_eq!((server.host.as_str(), server.port, server.security), (host, port, security), "{url}");
        };
        check("smtps://mail.example.org", "mail.example.org", 465, Security::Tls);
        check("smtp://mail.example.org", "mail.example.org", 587, Security::StartTls);
        check("smtp://mail.example.org:2525?tls=none", "mail.example.org", 2525, Security::Plain);
        check("smtp://[::1]:25?tls=none", "::1", 25, Security::Plain);
    }

    #[test]
    fn passwords_are_decoded_and_never_shown() {
        let server = smtp(&[("JOBCTL_SMTP_URL", "smtps://team%40x:p%2Fw%20d@h")]);
        let (user, password) = server.login.clone().unwrap();
        assert_eq!((user.as_str(), password.reveal()), ("team@x", "p/w d"));
        let settings = read(&[("JOBCTL_SMTP_URL", "smtps://me@h"), ("JOBCTL_SMTP_PASSWORD", "hush")]).unwrap();
        for shown in [format!("{server:?} {settings:?}"), Way::Smtp(server).to_string()] {
            assert!(!shown.contains("p/w d") && !shown.contains("hush"), "{shown}");
        }
        for wrong in ["smtp://u:hush@h?tls=none", "smtp://u:hush@h?tls=maybe", "http://u:hush@h", "smtp://u:hush@h/x"] {
            let error = format!("{:#}", read(&[("JOBCTL_SMTP_URL", wrong)]).unwrap_err());
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let check = |pairs: &[(&str, &str)], said: &str| {
            let error = format!("{:#}", read(pairs).unwrap_err());
            assert!(error.contains(said), "{error}");
        };
        check(&[("JOBCTL_SMTP_URL", "mail.example.org")], "it is no address");
        check(&[("JOBCTL_SMTP_URL", "smtps://u@h")], "no password");
        check(&[("JOBCTL_SMTP_URL", "smtp://u:p@mail.example.org?tls=none")], "in the clear");
        check(&[("JOBCTL_SMTP_URL", "smtps://h"), ("JOBCTL_MAIL_DIR", "/x")], "both set");
        assert!(read(&[]).unwrap().way.is_none());
        assert!(matches!(read(&[("JOBCTL_MAIL_DIR", "/x")]).unwrap().way, Some(Way::Folder(_))));
        smtp(&[("JOBCTL_SMTP_URL", "smtp://u:p@127.0.0.1?tls=none")]);
    }
}
