//! One conversation with a mail server, step by step, so that it is known at each whether the server has the message.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::Response;
use tokio::time::timeout;

use crate::config::{Security, Server};
use crate::store::outbox::Delivery;

/// How long a server may take for an answer. RFC 5321, 4.5.3.2, asks for five minutes at most steps.
const PATIENCE: Duration = Duration::from_secs(300);
/// And for the one after the message: ten.
const PATIENCE_AFTER_MESSAGE: Duration = Duration::from_secs(600);
/// How long a connection may take to come about.
const PATIENCE_TO_CONNECT: Duration = Duration::from_secs(30);
/// The message goes in pieces, so that a connection that breaks is noticed before the end.
const PIECE: usize = 16 * 1024;

/// Why a message did not go, and whether the server can have it.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server has nothing; later it may take it.
    Later(String),
    /// The server will not have it.
    Never(String),
    /// The server had all of it, and nobody knows whether it took it.
    Doubtful(String),
    /// We may not hand it over any more.
    Stopped(anyhow::Error),
}

type Outcome<T> = Result<T, Trouble>;

impl Trouble {
    /// Of what went wrong before the message was whole.
    fn before(step: &str, error: &lettre::transport::smtp::Error) -> Self {
        let said = format!("{step}: {}", answer(error));
        if error.is_permanent() { Self::Never(said) } else { Self::Later(said) }
    }
}

/// What a server said, or what became of the connection.
fn answer(error: &lettre::transport::smtp::Error) -> String {
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(error).and_then(std::error::Error::source);
    while let Some(it) = cause {
        said = format!("{said}: {it}");
        cause = it.source();
    }
    said.replace(char::is_control, " ")
}

/// Waits for an answer, but not for ever.
async fn within<T>(
    step: &str,
    limit: Duration,
    answered: impl Future<Output = Result<T, lettre::transport::smtp::Error>>,
) -> Outcome<T> {
    match timeout(limit, answered).await {
        Ok(answered) => answered.map_err(|it| Trouble::before(step, &it)),
        Err(_) => Err(Trouble::Later(format!("{step}: the server did not answer within {} s", limit.as_secs()))),
    }
}

/// Hands `message` over for `recipients`. `before_handing` is called when the server is ready for the message and has
/// nothing of it yet; an error of it stops everything.
///
/// # Errors
/// See [`Trouble`].
pub(super) async fn hand_over(
    server: &Server,
    sender: &str,
    recipients: &[String],
    message: &[u8],
    before_handing: impl Future<Output = anyhow::Result<()>>,
) -> Outcome<Delivery> {
    let mut connection = connect(server).await?;
    let result = converse(&mut connection, sender, recipients, message, before_handing).await;
    // Politeness must not hold anything up.
    let _ = timeout(Duration::from_secs(5), connection.abort()).await;
    result
}

async fn connect(server: &Server) -> Outcome<AsyncSmtpConnection> {
    let own = own_name();
    let tls = match server.security {
        Security::Plain => None,
        _ => Some(tls(server).map_err(|it| Trouble::Later(format!("{it:#}")))?),
    };
    let step = format!("connect to {}:{}", server.host, server.port);
    let from_start = tls.clone().filter(|_| server.security == Security::Tls);
    let address = (server.host.as_str(), server.port);
    let connecting = AsyncSmtpConnection::connect_tokio1(address, Some(PATIENCE_TO_CONNECT), &own, from_start, None);
    let mut connection = match within(&step, 2 * PATIENCE_TO_CONNECT, connecting).await {
        // A greeting of 5xx is the server's trouble, not the message's.
        Err(Trouble::Never(said)) => return Err(Trouble::Later(said)),
        other => other?,
    };
    if let (Security::StartTls, Some(tls)) = (server.security, tls) {
        if !connection.can_starttls() {
            let said = format!("{step}: it offers no STARTTLS, and nothing is sent without encryption");
            return Err(Trouble::Later(said));
        }
        within("STARTTLS", PATIENCE, connection.starttls(tls, &own)).await.map_err(later)?;
    }
    if let Some((user, password)) = &server.login {
        let login = Credentials::new(user.clone(), password.reveal().to_owned());
        // A wrong password is mended by people, and then the mail goes.
        within("log in", PATIENCE, connection.auth(DEFAULT_MECHANISMS, &login)).await.map_err(later)?;
    }
    Ok(connection)
}

fn later(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Never(said) => Trouble::Later(said),
        other => other,
    }
}

fn tls(server: &Server) -> anyhow::Result<TlsParameters> {
    let mut builder = TlsParameters::builder(server.host.clone());
    if let Some(path) = &server.ca {
        let pem = std::fs::read(path).with_context(|| format!("read JOBCTL_SMTP_CA, {}", path.display()))?;
        let certificate =
            Certificate::from_pem(&pem).with_context(|| format!("{} holds no certificate", path.display()))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build_rustls().context("prepare TLS")
}

/// What we call ourselves to servers: the host's name if it is one, else the address that stands for this machine.
fn own_name() -> ClientId {
    ClientId::default()
}

async fn converse(
    connection: &mut AsyncSmtpConnection,
    sender: &str,
    recipients: &[String],
    message: &[u8],
    before_handing: impl Future<Output = anyhow::Result<()>>,
) -> Outcome<Delivery> {
    let address =
        |text: &str| text.parse::<Address>().map_err(|it| Trouble::Never(format!("`{text}` is no address: {it}")));
    let mut options = Vec::new();
    if !message.is_ascii() && connection.server_info().supports_feature(Extension::EightBitMime) {
        options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    if !recipients.iter().all(|it| it.is_ascii()) || !sender.is_ascii() {
        if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            return Err(Trouble::Never("the server takes no addresses beyond ASCII".to_owned()));
        }
        options.push(MailParameter::SmtpUtfEight);
    }
    within("MAIL FROM", PATIENCE, connection.command(Mail::new(Some(address(sender)?), options))).await?;

    let mut delivery = Delivery::default();
    for recipient in recipients {
        let parsed = match address(recipient) {
            Ok(parsed) => parsed,
            Err(Trouble::Never(said)) => {
                delivery.refused.push(said);
                continue;
            }
            Err(other) => return Err(other),
        };
        match timeout(PATIENCE, connection.command(Rcpt::new(parsed, Vec::new()))).await {
            Ok(Ok(_)) => delivery.accepted.push(recipient.clone()),
            Ok(Err(error)) if error.is_permanent() => {
                delivery.refused.push(format!("{recipient}: {}", answer(&error)));
            }
            Ok(Err(error)) if error.is_transient() => {
                delivery.reply = answer(&error);
                delivery.deferred.push(recipient.clone());
            }
            Ok(Err(error)) => return Err(Trouble::before("RCPT TO", &error)),
            Err(_) => return Err(Trouble::Later("RCPT TO: the server did not answer".to_owned())),
        }
    }
    if delivery.accepted.is_empty() {
        return Err(if delivery.deferred.is_empty() {
            Trouble::Never(delivery.refused.join("; "))
        } else {
            Trouble::Later(delivery.reply)
        });
    }
    within("DATA", PATIENCE, connection.command(Data)).await?;
    before_handing.await.map_err(Trouble::Stopped)?;
    let reply = body(connection, message).await?;
    delivery.reply = reply.message().collect::<Vec<_>>().join(" ").replace(char::is_control, " ");
    Ok(delivery)
}

/// Sends the message. Until its last piece is written the server cannot have it: it ends with a dot of its own.
async fn body(connection: &mut AsyncSmtpConnection, message: &[u8]) -> Outcome<Response> {
    let is_whole = AtomicBool::new(false);
    let pieces = message.chunks(PIECE).chain(std::iter::once(&b""[..])).inspect(|it| {
        if it.is_empty() {
            is_whole.store(true, Ordering::Relaxed);
        }
    });
    let error = match timeout(PATIENCE_AFTER_MESSAGE, connection.message_iter(pieces)).await {
        Ok(Ok(response)) => return Ok(response),
        Ok(Err(error)) if error.is_permanent() => return Err(Trouble::Never(answer(&error))),
        Ok(Err(error)) if error.is_transient() => return Err(Trouble::Later(answer(&error))),
        Ok(Err(error)) => answer(&error),
        Err(_) => format!("no answer within {} s", PATIENCE_AFTER_MESSAGE.as_secs()),
    };
    Err(if is_whole.load(Ordering::Relaxed) {
        Trouble::Doubtful(format!(
            "the connection broke after the message, before the server said that it has it: {error}"
        ))
    } else {
        Trouble::Later(format!("the connection broke in the middle of the message: {error}"))
    })
}
