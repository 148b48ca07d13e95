//! A mail as bytes: parts, headers, attachments. Made once, so that every try sends the same.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use time::OffsetDateTime;
use uuid::Uuid;

use super::compose::Content;

/// Who writes to whom.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The mail's row, which makes its Message-ID.
    pub id: Uuid,
    /// Who it is from.
    pub from: Mailbox,
    /// Who gets it.
    pub to: Vec<Mailbox>,
    /// When it was written.
    pub at: OffsetDateTime,
}

/// A file that goes with a mail.
#[derive(Clone, Debug)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its media type.
    pub media: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// RFC 3834: nobody's holiday notice answers it.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// The Message-ID of a mail: the same at every try.
pub fn message_id(id: Uuid, from: &Mailbox) -> String {
    format!("<{id}@{}>", from.email.domain())
}

/// The whole message: text and HTML as alternatives, the charts beside the HTML, the files after both.
///
/// # Errors
/// An address or a name that no mail may have.
pub fn write(envelope: &Envelope, content: &Content, files: &[File]) -> anyhow::Result<Vec<u8>> {
    let seconds = u64::try_from(envelope.at.unix_timestamp()).unwrap_or_default();
    let mut builder = lettre::Message::builder()
        .message_id(Some(message_id(envelope.id, &envelope.from)))
        .from(envelope.from.clone())
        .subject(content.subject.clone())
        .date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
        .header(AutoSubmitted);
    for to in &envelope.to {
        builder = builder.to(to.clone());
    }
    let png: ContentType = "image/png".parse().context("a media type")?;
    let mut related = MultiPart::related().singlepart(SinglePart::html(content.html.clone()));
    for chart in &content.charts {
        let part = Attachment::new_inline_with_name(chart.id.clone(), chart.name.clone());
        related = related.singlepart(part.body(chart.png.clone(), png.clone()));
    }
    let alternative = MultiPart::alternative().singlepart(SinglePart::plain(content.text.clone())).multipart(related);
    let mut mixed = MultiPart::mixed().multipart(alternative);
    for file in files {
        let media: ContentType = file.media.parse().with_context(|| format!("the media type {}", file.media))?;
        mixed = mixed.singlepart(Attachment::new(file.name.clone()).body(file.bytes.clone(), media));
    }
    Ok(builder.multipart(mixed).context("write the mail")?.formatted())
}
