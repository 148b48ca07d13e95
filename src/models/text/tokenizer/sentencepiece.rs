//! SentencePiece's `.model` file: the protobuf message ModelProto, as far as transformers uses it.
//!
//! Field numbers are those of sentencepiece_model.proto. Whether a prompt is prefixed with a space and whether
//! spaces collapse is also in the file, but transformers does both whatever the file says.

use anyhow::{Context, bail, ensure};

/// What a `.model` file holds.
pub struct File {
    /// Pieces with their log probabilities, in the order of their ids.
    pub pieces: Vec<(String, f64)>,
    /// Pieces that are marks (`<pad>`, `</s>`) or were defined by the user.
    pub controls: Vec<String>,
    /// The table of the normaliser, if there is one.
    pub charsmap: Option<Vec<u8>>,
}

/// `TrainerSpec.ModelType.UNIGRAM`
const UNIGRAM: u64 = 1;
/// `SentencePiece.Type`: CONTROL and USER_DEFINED.
const MARKS: [u64; 2] = [3, 4];

/// Reads a file's bytes.
pub fn parse(bytes: &[u8]) -> anyhow::Result<File> {
    let mut file = File { pieces: Vec::new(), controls: Vec::new(), charsmap: None };
    let mut is_whole = false;
    for field in Fields(bytes) {
        match field.context("is no SentencePiece model, or is truncated")? {
            (1, Value::Bytes(it)) => {
                let idx = file.pieces.len();
                let (piece, score, kind) = piece(it).with_context(|| format!("piece {idx}"))?;
                if MARKS.contains(&kind) {
                    file.controls.push(piece.clone());
                }
                file.pieces.push((piece, score));
            }
            (2, Value::Bytes(it)) => {
                let kind = Fields(it).filter_map(Result::ok).find_map(|field| match field {
                    (3, Value::Number(kind)) => Some(kind),
                    _ => None,
                });
                ensure!(kind.unwrap_or(UNIGRAM) == UNIGRAM, "is a SentencePiece model, but not of the unigram type");
            }
            (3, Value::Bytes(it)) => {
                is_whole = true;
                for field in Fields(it) {
                    if let (2, Value::Bytes(table)) = field.context("normalizer_spec")? {
                        file.charsmap = Some(table.to_vec()).filter(|it| !it.is_empty());
                    }
                }
            }
            _ => {}
        }
    }
    // It is written after the pieces: without it the file was cut between two of them.
    ensure!(is_whole, "has no normalizer_spec: it is no SentencePiece model, or is truncated");
    ensure!(!file.pieces.is_empty(), "holds no pieces: it is no SentencePiece model");
    Ok(file)
}

/// A piece, its score and its type.
fn piece(bytes: &[u8]) -> anyhow::Result<(String, f64, u64)> {
    let (mut text, mut score, mut kind) = (String::new(), 0.0, 1);
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(it)) => text = std::str::from_utf8(it).context("is no UTF-8")?.to_owned(),
            (2, Value::Four(it)) => score = f64::from(f32::from_le_bytes(it)),
            (3, Value::Number(it)) => kind = it,
            _ => {}
        }
    }
    Ok((text, score, kind))
}

/// The value of a field, by its wire type.
enum Value<'a> {
    Number(u64),
    Eight,
    Bytes(&'a [u8]),
    Four([u8; 4]),
}

/// The fields of a message that are still to come. Stops at the first fault.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: u64) -> anyhow::Result<&'a [u8]> {
        let n = usize::try_from(n).ok().filter(|it| *it <= self.0.len());
        let (taken, rest) = self.0.split_at(n.context("a field goes on past the end")?);
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> anyhow::Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        bail!("a number is longer than 64 bits")
    }

    fn field(&mut self) -> anyhow::Result<(u64, Value<'a>)> {
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            1 => {
                self.take(8)?;
                Value::Eight
            }
            2 => {
                let n = self.number()?;
                Value::Bytes(self.take(n)?)
            }
            5 => Value::Four(self.take(4)?.try_into().expect("four bytes were taken")),
            other => bail!("wire type {other}"),
        };
        Ok((tag >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = anyhow::Result<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}
