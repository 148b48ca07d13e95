//! Where an answer speaks of which aspect: a heading begins each part, the next heading ends it.

use super::Reading;
use crate::job::task::asking::Aspect;

/// What may stand before a heading, and around it.
const MARKS: &[char] =
    &['*', '#', '-', '_', '>', '`', '"', '\'', '[', ']', '(', ')', '{', '}', '<', '|', '+', '•', ' '];

/// The parts of a text, each with its aspect, in the text's order. An aspect may have several, or none.
pub(super) fn segments<'a>(text: &'a str, aspects: &[Aspect], reading: Reading) -> Vec<(Aspect, &'a str)> {
    let lower = text.to_ascii_lowercase();
    // Where a heading begins, where what it heads begins, and whose it is. Aspects that were not asked for end a part too.
    let mut found: Vec<(usize, usize, Aspect)> = Vec::new();
    for aspect in Aspect::ALL {
        let mut from = 0;
        while let Some((start, end)) = named(&lower, from, aspect) {
            from = end;
            if let (Some(begin), Some(rest)) = (heading_start(&lower, start), after_heading(&lower, end, reading)) {
                found.push((begin, rest, aspect));
            }
        }
    }
    found.sort_unstable_by_key(|it| (it.0, it.1));
    let mut segments = Vec::new();
    for (idx, (_, start, aspect)) in found.iter().enumerate() {
        let end = found.get(idx + 1).map_or(text.len(), |it| it.0.max(*start));
        if aspects.contains(aspect) {
            segments.push((*aspect, &text[*start..end]));
        }
    }
    if let (true, [only], Reading::Tolerant) = (found.is_empty(), aspects, reading) {
        // Of one question the answer needs no heading; then it has to say the whole sentence, though.
        let says_it = ["first image is better", "second image is better"].iter().any(|it| lower.contains(it));
        if says_it {
            segments.push((*only, text));
        }
    }
    segments
}

/// The next place at or after `from` that names the aspect: its two words, with blanks, `_` or `-` between them.
fn named(lower: &str, from: usize, aspect: Aspect) -> Option<(usize, usize)> {
    let title = aspect.title().to_ascii_lowercase();
    let (first, second) = title.split_once(' ').unwrap_or((&title, ""));
    let mut at = from;
    while let Some(found) = lower[at..].find(first) {
        let start = at + found;
        at = start + first.len();
        let gap = lower[at..].trim_start_matches([' ', '_', '-', '\n']);
        let n_gap = lower.len() - at - gap.len();
        // `aesthetic` and `detail` will do.
        let singular = second.strip_suffix('s').unwrap_or(second);
        if (1..=3).contains(&n_gap) && gap.starts_with(singular) {
            let n = if gap.starts_with(second) { second.len() } else { singular.len() };
            let end = at + n_gap + n;
            if !lower[end..].starts_with(|it: char| it.is_ascii_alphanumeric()) {
                return Some((start, end));
            }
        }
    }
    None
}

/// Where the heading begins whose name is at `start`: at its number or its marks, if that is where a line or a sentence
/// begins; none in the middle of a sentence.
fn heading_start(lower: &str, start: usize) -> Option<usize> {
    let is_line = |it: &str| it.is_empty() || it.ends_with('\n');
    let before = lower[..start].trim_end_matches(MARKS);
    if is_line(before) || ends_sentence(before) || ends_value(before, lower, start) {
        let numbered = without_number(before);
        return Some(numbered.map_or(before.len(), str::len));
    }
    // `1. Visual Aesthetics`, `(1) …`, `1: …`, `Q1. …`
    let rest = without_number(before)?;
    let outer = rest.trim_end_matches(MARKS);
    (is_line(outer) || ends_sentence(outer) || ends_value(outer, lower, rest.len())).then_some(outer.len())
}

fn ends_sentence(text: &str) -> bool {
    text.ends_with(['.', '!', '?', ';', ':', ','])
}

/// Whether a quoted or bracketed value ends just before: `"…", "Fine Details": …` has its comma among the marks.
fn ends_value(before: &str, lower: &str, start: usize) -> bool {
    lower[before.len()..start].contains(['"', '}', ']', ')', '|', '*', '#'])
}

/// The text before a number that ends it, such as `1.`, `2)` or `3`; none if no number does.
fn without_number(text: &str) -> Option<&str> {
    let inner = text.trim_end_matches(['.', ')', ':', ']', '*', ' ']);
    let rest = inner.strip_suffix(['1', '2', '3'])?;
    // 13. is no number of a question.
    (!rest.ends_with(|it: char| it.is_ascii_digit())).then_some(rest)
}

/// Where what follows a heading begins: after its colon, or, tolerantly, a dash, a bar or the end of its line.
fn after_heading(lower: &str, end: usize, reading: Reading) -> Option<usize> {
    let rest = lower[end..].trim_start_matches([' ', '*', '_', '`', '"', '\'', ')', ']', '>', '}']);
    let at = lower.len() - rest.len();
    let separators: &[char] = match reading {
        Reading::Strict => &[':'],
        Reading::Tolerant => &[':', '-', '|', '\n', '='],
    };
    rest.starts_with(separators).then_some(at + 1)
}
