//! Tables of a report: text in cells, and beside it what a column is sorted by.

use askama::Template;

/// A table that a reader can sort by any of its columns.
#[derive(Template, Clone, Debug, Default)]
#[template(path = "report/table.html")]
pub(super) struct Table {
    /// What it shows, for those who do not see it.
    pub(super) caption: String,
    /// A class for the whole table, or nothing.
    pub(super) class: &'static str,
    pub(super) head: Vec<Head>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// A column's title.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub(super) text: String,
    /// Beside the title: which way is better, or the unit.
    pub(super) hint: String,
    /// What the hint means, in words.
    pub(super) title: String,
    /// Whether its cells are numbers, which stand right.
    pub(super) numeric: bool,
}

/// One cell.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) text: String,
    /// Under the text, smaller.
    pub(super) note: String,
    /// What the column is sorted by; empty for cells that stay at the end whichever way.
    pub(super) sort: String,
    pub(super) class: String,
}

impl Table {
    pub(super) fn new(caption: impl Into<String>, head: Vec<Head>) -> Self {
        Self { caption: caption.into(), head, ..Self::default() }
    }
}

/// A column of words.
pub(super) fn words(text: impl Into<String>) -> Head {
    Head { text: text.into(), ..Head::default() }
}

/// A column of numbers.
pub(super) fn numbers(text: impl Into<String>) -> Head {
    Head { text: text.into(), numeric: true, ..Head::default() }
}

impl Head {
    /// With a hint and what it means.
    pub(super) fn hinting(mut self, hint: impl Into<String>, title: impl Into<String>) -> Self {
        self.hint = hint.into();
        self.title = title.into();
        self
    }
}

impl Cell {
    /// Words, sorted as words.
    pub(super) fn words(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { sort: text.to_lowercase(), text, ..Self::default() }
    }

    /// A number as `text`, sorted as a number.
    pub(super) fn number(text: impl Into<String>, value: f64) -> Self {
        Self { text: text.into(), sort: value.to_string(), ..Self::default() }
    }

    /// Words where a number would be, which sort last.
    pub(super) fn absent(text: impl Into<String>) -> Self {
        Self { text: text.into(), class: "absent".to_owned(), ..Self::default() }
    }

    /// With smaller text beneath.
    pub(super) fn noting(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// With a class.
    pub(super) fn classed(mut self, class: impl Into<String>) -> Self {
        self.class = class.into();
        self
    }

    /// Sorted by something else than its text.
    pub(super) fn sorting(mut self, sort: impl Into<String>) -> Self {
        self.sort = sort.into();
        self
    }
}
