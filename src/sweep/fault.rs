//! What is wrong with a sweep file, where, and what was probably meant.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, LabeledSpan, NamedSource, SourceSpan};

/// One mistake.
#[derive(Debug)]
pub struct Fault {
    /// What is wrong, in one line.
    pub message: String,
    /// What would be right, where that can be said.
    pub help: Option<String>,
    /// Where, as bytes of the text, with a word on each place; the first is where it is reported.
    pub places: Vec<(Range<usize>, String)>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    source: Arc<NamedSource<String>>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl Diagnostic for Fault {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|it| Box::new(it) as _)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(&*self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.places.iter().enumerate().map(|(idx, (span, label))| {
            let label = Some(label.clone()).filter(|it| !it.is_empty());
            let span = SourceSpan::from(span.clone());
            if idx == 0 {
                LabeledSpan::new_primary_with_span(label, span)
            } else {
                LabeledSpan::new_with_span(label, span)
            }
        })))
    }
}

/// All mistakes of a sweep file, in its order. Its text is the plain form: no colours, and each
/// mistake begins with `file:line:column:`.
#[derive(Debug)]
pub struct Faults {
    /// At least one.
    pub faults: Vec<Fault>,
}

impl Faults {
    /// As a terminal shows them: with colours and the lines around each mistake.
    pub fn for_terminal(&self, width: usize) -> String {
        let handler = GraphicalReportHandler::new().with_width(width).with_links(false);
        let mut text = String::new();
        for fault in &self.faults {
            handler.render_report(&mut text, fault).expect("a string takes any text");
        }
        text
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, fault) in self.faults.iter().enumerate() {
            if idx > 0 {
                f.write_str("\n\n")?;
            }
            let (name, text) = (fault.source.name(), fault.source.inner());
            write!(f, "{name}:{}:{}: {}", fault.line, fault.column, fault.message)?;
            for (span, label) in &fault.places {
                let (line, column) = position(text, span.start);
                let shown = text.lines().nth(line - 1).unwrap_or_default();
                let rest = shown.chars().count().saturating_sub(column - 1);
                let n_marked = text.get(span.clone()).map_or(1, |it| it.chars().count()).clamp(1, rest.max(1));
                // A tab stays a tab, so that the mark stands below its text at any tab width.
                let gap: String =
                    shown.chars().take(column - 1).map(|it| if it == '\t' { '\t' } else { ' ' }).collect();
                write!(f, "\n{line:5} | {shown}\n      | {gap}{}", "^".repeat(n_marked))?;
                if !label.is_empty() {
                    write!(f, " {label}")?;
                }
            }
            if let Some(help) = &fault.help {
                write!(f, "\n  help: {help}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Takes mistakes down while a file is read.
pub(crate) struct Collector {
    source: Arc<NamedSource<String>>,
    faults: RefCell<Vec<Fault>>,
}

/// The text as a terminal may have it, every byte in its place: what would steer the terminal becomes question marks.
fn inert(text: &str) -> String {
    let steers = |it: char| {
        it.is_control() && !matches!(it, '\n' | '\r' | '\t')
            || matches!(it, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut inert = String::with_capacity(text.len());
    for it in text.chars() {
        if steers(it) { inert.extend(std::iter::repeat_n('?', it.len_utf8())) } else { inert.push(it) }
    }
    inert
}

impl Collector {
    pub(crate) fn new(text: &str, file_name: &str) -> Self {
        let source = Arc::new(NamedSource::new(file_name, inert(text)));
        Self { source, faults: RefCell::default() }
    }

    /// A mistake at one place.
    pub(crate) fn at(&self, span: &Range<usize>, message: impl Into<String>, help: impl Into<Option<String>>) {
        self.at_all(vec![(span.clone(), String::new())], message, help);
    }

    /// A mistake that shows at several places, which need a word each.
    pub(crate) fn at_all(
        &self,
        mut places: Vec<(Range<usize>, String)>,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        let text = self.source.inner();
        for (span, _) in &mut places {
            span.start = span.start.min(text.len());
            span.end = span.end.clamp(span.start, text.len());
        }
        let (line, column) = position(text, places.first().map_or(0, |it| it.0.start));
        self.faults.borrow_mut().push(Fault {
            message: message.into(),
            help: help.into(),
            places,
            line,
            column,
            source: Arc::clone(&self.source),
        });
    }

    /// What was taken down, by place; nothing where the file is right.
    pub(crate) fn finish(self) -> Option<Faults> {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|it| (it.line, it.column));
        // Every point of a block may have the same mistake.
        faults.dedup_by(|a, b| (a.line, a.column, &a.message) == (b.line, b.column, &b.message));
        (!faults.is_empty()).then_some(Faults { faults })
    }
}

/// Line and column of a byte, both from 1, the column in characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    let line_start = before.iter().rposition(|&it| it == b'\n').map_or(0, |it| it + 1);
    let line = before.iter().filter(|&&it| it == b'\n').count() + 1;
    (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
}

/// The candidate that `word` is probably a misspelling of.
pub(crate) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|it| (strsim::damerau_levenshtein(&word, &it.to_lowercase()), it))
        .filter(|it| it.0 <= limit)
        .min_by_key(|it| it.0)
        .map(|it| it.1)
}
