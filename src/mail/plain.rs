//! The plain-text twin: what a text client shows, 78 columns wide.

use super::compose::Page;
use super::grids::Grid;

/// As wide as RFC 5322, 2.1.1, wants lines at most.
const WIDTH: usize = 78;
/// The widest first column of a table.
const WIDEST_NAME: usize = 34;

/// The page as text.
pub(super) fn text(page: &Page) -> String {
    let mut text = format!("{}\n{}\n\n", page.title, page.moment);
    text += &wrapped(&page.verdict.to_uppercase(), "", "");
    for part in &page.parts {
        text += &format!("\n{}\n{}\n", part.title, "-".repeat(part.title.chars().count()));
        for item in &part.items {
            text += &wrapped(&item.text, "* ", "  ");
            for cause in &item.causes {
                text += &wrapped(cause, "  - ", "    ");
            }
        }
        if part.n_more > 0 {
            text += &format!("  and {} more in the full report\n", part.n_more);
        }
    }
    text.push('\n');
    let basis = [std::slice::from_ref(&page.basis), &page.notes].concat().join(" ");
    text += &wrapped(&basis, "", "");
    for grid in &page.grids {
        text += &format!("\n{}\n{}\n", grid.title, "-".repeat(grid.title.chars().count()));
        text += &table(grid);
        if grid.n_more > 0 {
            text += &format!("and {} more rows in the full report\n", grid.n_more);
        }
        if !grid.note.is_empty() {
            text += &wrapped(&grid.note, "", "");
        }
    }
    text.push('\n');
    text += &wrapped(&page.full, "", "");
    text += &wrapped(&page.made, "", "");
    text
}

/// A text in lines of at most [`WIDTH`] columns; a longer word, such as an address, stays whole.
fn wrapped(text: &str, first: &str, rest: &str) -> String {
    let mut out = String::new();
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in text.split([' ', '\n']).filter(|it| !it.is_empty()) {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out += line.trim_end();
            out.push('\n');
            line = rest.to_owned();
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line += word;
        is_empty = false;
    }
    out += line.trim_end();
    out.push('\n');
    out
}

/// A table in columns; where they do not fit side by side, each row is a line of its own with what it says below it.
fn table(grid: &Grid) -> String {
    let width = |text: &str| text.chars().count();
    let n = grid.head.len();
    let mut widths: Vec<usize> = grid.head.iter().map(|it| width(it)).collect();
    for row in &grid.rows {
        for (idx, cell) in row.iter().enumerate() {
            widths[idx] = widths[idx].max(width(&cell.text));
        }
    }
    widths[0] = widths[0].min(WIDEST_NAME);
    let is_wide = widths.iter().sum::<usize>() + 2 * (n - 1) > WIDTH;
    let mut text = String::new();
    if is_wide {
        for row in &grid.rows {
            text += &format!("{}\n", row[0].text);
            let said =
                row.iter().zip(&grid.head).skip(1).filter(|it| it.0.text != "–").map(|(cell, head)| {
                    if head.is_empty() { cell.text.clone() } else { format!("{head} {}", cell.text) }
                });
            text += &wrapped(&said.collect::<Vec<_>>().join("; "), "    ", "    ");
        }
        return text;
    }
    let mut line = |cells: Vec<&str>| {
        let mut line = String::new();
        for (idx, cell) in cells.iter().enumerate() {
            let gap = " ".repeat(widths[idx].saturating_sub(width(cell)));
            if idx == 0 {
                // A long name has a line for itself.
                if width(cell) > widths[0] {
                    text.push_str(&format!("{cell}\n{}", " ".repeat(widths[0])));
                } else {
                    line += &format!("{cell}{gap}");
                }
            } else {
                line += &format!("  {gap}{cell}");
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(grid.head.iter().map(String::as_str).collect());
    for row in &grid.rows {
        line(row.iter().map(|it| it.text.as_str()).collect());
    }
    text
}

/// A text of at most `n` characters that is what it looks like: no control characters, no marks that turn the direction of
/// writing.
pub(super) fn tame(text: &str, n: usize) -> String {
    let steers = |it: char| {
        it.is_control() || matches!(it, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let tame: String = text.chars().map(|it| if steers(it) { '\u{fffd}' } else { it }).take(n + 1).collect();
    if tame.chars().count() > n { tame.chars().take(n - 1).chain(['…']).collect() } else { tame }
}

#[cfg(test)]
mod tests {
    use super::{WIDTH, tame, wrapped};

    #[test]
    fn lines_are_broken_between_words() {
        let text = wrapped(&"word ".repeat(40), "* ", "  ");
        assert!(text.lines().all(|it| it.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|it| it.starts_with("  word")), "{text}");
        assert_eq!(wrapped("", "* ", ""), "*\n");
    }

    #[test]
    fn names_are_tamed() {
        assert_eq!(tame("a\u{202e}b\nc", 9), "a\u{fffd}b\u{fffd}c");
        assert_eq!(tame("abcdef", 4), "abc…");
        assert_eq!(tame("abcd", 4), "abcd");
    }
}
