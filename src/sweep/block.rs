//! One table of a sweep file: its keys read by type, with a diagnosis for whatever does not fit.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Axis;
use super::fault::{Collector, closest};

/// A value and its place in the file.
#[derive(Clone, Default, Debug)]
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

/// A table that is being read.
pub(crate) struct Block<'a> {
    /// How the file writes it, such as `[[damage]]`.
    pub(crate) title: &'static str,
    pub(crate) table: &'a DeTable<'a>,
    pub(crate) span: Range<usize>,
    pub(crate) faults: &'a Collector,
}

impl<'a> Block<'a> {
    /// The value of `key`, where the table has it.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    /// The place of the key itself.
    pub(crate) fn key_span(&self, key: &str) -> Range<usize> {
        self.table.get_key_value(key).map_or_else(|| self.span.clone(), |it| it.0.span())
    }

    /// Takes down that `key` is not there, unless it is there misspelt, which is taken down as that.
    pub(crate) fn missing(&self, key: &str, example: &str) {
        if self.has_misspelt(key) {
            return;
        }
        let message = format!("{} has no `{key}`", self.title);
        self.faults.at(&self.span, message, format!("add `{key} = {example}`"));
    }

    /// Whether some key looks like `key`. No two keys of a block look alike.
    pub(crate) fn has_misspelt(&self, key: &str) -> bool {
        self.table.keys().any(|it| closest(it.get_ref(), [key]).is_some())
    }

    /// [`Self::text`], for a key that has to be there.
    pub(crate) fn required_text(&self, key: &str, example: &str) -> Option<Placed<String>> {
        if self.get(key).is_none() {
            self.missing(key, example);
        }
        self.text(key)
    }

    /// The text of `key`: not empty, without line breaks and the like, no blanks around it.
    pub(crate) fn text(&self, key: &str) -> Option<Placed<String>> {
        let value = self.get(key)?;
        let DeValue::String(text) = value.get_ref() else {
            self.wrong_type(key, value, "a string", quoted(value));
            return None;
        };
        let span = value.span();
        if text.trim().is_empty() {
            self.faults.at(&span, format!("`{key}` is empty"), None);
            return None;
        }
        if text.trim() != text.as_ref() || text.chars().any(char::is_control) {
            let message = format!("`{key}` has blanks around it, or line breaks or other control characters in it");
            let plain = text.replace(char::is_control, " ");
            self.faults.at(&span, message, format!("write `{key} = \"{}\"`", plain.trim()));
            return None;
        }
        Some(Placed { value: text.to_string(), span })
    }

    /// The whole number of `key`.
    pub(crate) fn integer(&self, key: &str, range: RangeInclusive<i128>) -> Option<i128> {
        let value = self.get(key)?;
        if let DeValue::Array(_) = value.get_ref() {
            let help = format!("`{key}` of {} is no axis: write a block for each value", self.title);
            self.wrong_type(key, value, "a whole number", Some(help));
            return None;
        }
        self.whole(key, value, range)
    }

    /// Whether `key` is true.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        let value = self.get(key)?;
        let DeValue::Boolean(it) = value.get_ref() else {
            self.wrong_type(key, value, "true or false", None);
            return None;
        };
        Some(*it)
    }

    /// The number of `key`; `fits` says what it must be.
    pub(crate) fn number(&self, key: &str, must_be: &str, fits: impl Fn(f64) -> bool) -> Option<f64> {
        let value = self.get(key)?;
        if let DeValue::Array(_) = value.get_ref() {
            let help = format!("`{key}` of {} is no axis: write a block for each value", self.title);
            self.wrong_type(key, value, "a number", Some(help));
            return None;
        }
        self.number_axis(key, must_be, fits)?.values.first().map(|it| it.value)
    }

    /// One of `choices`, by its word.
    pub(crate) fn choice<T: Copy>(&self, key: &str, choices: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = choices.iter().find(|it| it.0 == text.value);
        if found.is_none() {
            let words = choices.iter().map(|it| it.0);
            let help =
                meant(&text.value, words.clone()).unwrap_or_else(|| format!("`{key}` is one of {}", listed(words)));
            self.faults.at(&text.span, format!("`{key}` cannot be `{}`", text.value), help);
        }
        found.map(|it| it.1)
    }

    /// The whole numbers of `key`, a scalar or an axis.
    pub(crate) fn whole_axis(&self, key: &str, range: RangeInclusive<i128>) -> Option<Axis<Placed<i128>>> {
        self.axis(key, |value| self.whole(key, value, range.clone()))
    }

    /// The numbers of `key`, a scalar or an axis; `fits` says what they must be.
    pub(crate) fn number_axis(
        &self,
        key: &str,
        must_be: &str,
        fits: impl Fn(f64) -> bool,
    ) -> Option<Axis<Placed<f64>>> {
        self.axis(key, |value| {
            let parsed = match value.get_ref() {
                DeValue::Integer(it) => i128::from_str_radix(it.as_str(), it.radix()).ok().map(|it| it as f64),
                DeValue::Float(it) => it.as_str().parse().ok(),
                _ => {
                    self.wrong_type(key, value, "a number", unquoted(value));
                    return None;
                }
            };
            let number = parsed.filter(|&it| f64::is_finite(it) && fits(it));
            if number.is_none() {
                let shown = shown(value.get_ref());
                self.faults.at(&value.span(), format!("`{key}` is {must_be}, not {shown}"), None);
            }
            number
        })
    }

    /// Texts of `key`, a scalar or an axis. They may be empty; blanks around them count.
    pub(crate) fn text_axis(&self, key: &str) -> Option<Axis<Placed<String>>> {
        self.axis(key, |value| match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            _ => {
                self.wrong_type(key, value, "a string", quoted(value));
                None
            }
        })
    }

    /// Some of `choices`, a scalar or an axis, by their words.
    pub(crate) fn choice_axis<T: Copy>(&self, key: &str, choices: &[(&'static str, T)]) -> Option<Axis<Placed<T>>> {
        self.axis(key, |value| {
            let DeValue::String(text) = value.get_ref() else {
                self.wrong_type(key, value, "a string", quoted(value));
                return None;
            };
            let found = choices.iter().find(|it| it.0 == text.as_ref()).map(|it| it.1);
            if found.is_none() {
                let words = choices.iter().map(|it| it.0);
                let help = meant(text, words.clone()).unwrap_or_else(|| format!("`{key}` is one of {}", listed(words)));
                self.faults.at(&value.span(), format!("`{key}` cannot be `{text}`"), help);
            }
            found
        })
    }

    /// Sizes in pixels, a scalar or an axis: `"WIDTHxHEIGHT"`, or one number for a square.
    pub(crate) fn size_axis(&self, key: &str) -> Option<Axis<Placed<(u32, u32)>>> {
        self.axis(key, |value| {
            let size = match value.get_ref() {
                DeValue::Integer(it) => side(it.as_str()).map(|it| (it, it)),
                DeValue::String(text) => match text.split_once(['x', 'X', '×']) {
                    Some((width, height)) => side(width).zip(side(height)),
                    None => side(text).map(|it| (it, it)),
                },
                _ => {
                    let help = "write \"2048x2048\", width before height, or 2048 for a square".to_owned();
                    self.wrong_type(key, value, "a size", help);
                    return None;
                }
            };
            if size.is_none() {
                let text = match value.get_ref() {
                    DeValue::String(text) => text.to_string(),
                    other => shown(other),
                };
                let help = "write \"2048x2048\", width before height, both from 1 to 65500".to_owned();
                self.faults.at(&value.span(), format!("`{text}` is no size"), help);
            }
            size
        })
    }

    fn axis<T>(&self, key: &str, read: impl Fn(&Spanned<DeValue<'a>>) -> Option<T>) -> Option<Axis<Placed<T>>> {
        let value = self.get(key)?;
        let placed = |it: &Spanned<DeValue<'a>>| Some(Placed { value: read(it)?, span: it.span() });
        let DeValue::Array(list) = value.get_ref() else {
            return placed(value).map(Axis::fixed);
        };
        if list.is_empty() {
            let help = format!("give `{key}` a value or several, or take the key out");
            self.faults.at(&value.span(), format!("the axis `{key}` is empty"), help);
            return None;
        }
        // Every value is looked at, so that every mistake is found.
        let values: Vec<Option<Placed<T>>> = list.iter().map(placed).collect();
        Some(Axis { values: values.into_iter().collect::<Option<_>>()?, varies: true })
    }

    fn whole(&self, key: &str, value: &Spanned<DeValue<'a>>, range: RangeInclusive<i128>) -> Option<i128> {
        let DeValue::Integer(integer) = value.get_ref() else {
            self.wrong_type(key, value, "a whole number", unquoted(value));
            return None;
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|it| range.contains(it));
        if number.is_none() {
            let message = format!("`{key}` is a whole number {}, not {integer}", between(&range));
            self.faults.at(&value.span(), message, None);
        }
        number
    }

    /// Takes down that `key` ought to be `wanted`.
    pub(crate) fn wrong_type(
        &self,
        key: &str,
        value: &Spanned<DeValue<'a>>,
        wanted: &str,
        help: impl Into<Option<String>>,
    ) {
        let message = format!("`{key}` of {} is {wanted}, not {}", self.title, type_of(value.get_ref()));
        self.faults.at(&value.span(), message, help);
    }
}

/// One side of a picture.
fn side(text: &str) -> Option<u32> {
    text.trim().replace('_', "").parse().ok().filter(|it| (1..=65_500).contains(it))
}

/// "did you mean" the closest of `candidates`, where one is close.
pub(crate) fn meant<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(word, candidates).map(|it| format!("did you mean `{it}`?"))
}

/// Words as a sentence lists them.
pub(crate) fn listed(words: impl IntoIterator<Item = impl Display>) -> String {
    words.into_iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ")
}

fn between(range: &RangeInclusive<i128>) -> String {
    // The largest whole number of TOML is that of 64 bits: no news to whoever wrote a smaller one.
    match (*range.start(), *range.end()) {
        (low, high) if high >= i128::from(i64::MAX) => format!("of at least {low}"),
        (low, high) => format!("from {low} to {high}"),
    }
}

fn type_of(value: &DeValue) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn shown(value: &DeValue) -> String {
    match value {
        DeValue::Integer(it) => it.to_string(),
        DeValue::Float(it) => it.to_string(),
        other => type_of(other).to_owned(),
    }
}

/// What a string, or a whole number with a point, probably means.
fn unquoted(value: &Spanned<DeValue>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) if text.trim().parse::<f64>().is_ok() => {
            Some(format!("leave out the quotes: {}", text.trim()))
        }
        DeValue::Float(it) => {
            let number = it.as_str().parse::<f64>().ok().filter(|it| it.fract() == 0.0 && it.abs() < 1e15)?;
            Some(format!("write it without a point: {number}"))
        }
        _ => None,
    }
}

/// What a bare word in a string's place probably means.
pub(crate) fn quoted(value: &Spanned<DeValue>) -> Option<String> {
    match value.get_ref() {
        it @ (DeValue::Integer(_) | DeValue::Float(_)) => Some(format!("put it in quotes: \"{}\"", shown(it))),
        DeValue::Array(_) => Some("it takes one, not several: write a block for each".to_owned()),
        _ => None,
    }
}
