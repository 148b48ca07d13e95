//! What a machine has written, made plain enough to be searched, and stored.

/// The most bytes of an answer that are kept and looked at.
const MOST_BYTES: usize = 64 << 10;

/// The text with ASCII's own letters, blanks and signs where it has their look-alikes, and without invisible marks:
/// full-width forms become plain ones (`：` is `:`), special blanks become blanks, curly quotes straight ones.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len().min(MOST_BYTES));
    for it in cut(text, MOST_BYTES).chars() {
        match it {
            '\r' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}' => {}
            '\u{ff01}'..='\u{ff5e}' => {
                plain.push(char::from_u32(u32::from(it) - 0xfee0).expect("full-width forms stand beside ASCII"));
            }
            '\t' | '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{3000}' => plain.push(' '),
            '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => plain.push('\n'),
            '。' => plain.push('.'),
            '‘' | '’' => plain.push('\''),
            '“' | '”' => plain.push('"'),
            '–' | '—' | '‑' => plain.push('-'),
            _ => plain.push(it),
        }
    }
    plain
}

/// The beginning of a text, at most so many bytes of it.
pub(super) fn cut(text: &str, most_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(most_bytes)]
}

/// The text as Postgres takes it: without NUL.
pub(super) fn storable(text: &str, most_bytes: usize) -> String {
    cut(text, most_bytes).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::{cut, plain, storable};

    #[test]
    fn look_alikes_become_plain() {
        assert_eq!(plain("１．Ａ：\u{a0}x\u{200b}y。\r\n“z”"), "1.A: xy.\n\"z\"");
        assert_eq!(plain("größe 大"), "größe 大");
    }

    #[test]
    fn a_text_is_cut_between_letters() {
        assert_eq!(cut("äöü", 3), "ä");
        assert_eq!(storable("a\0b", 10), "a\u{fffd}b");
    }
}
