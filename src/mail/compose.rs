//! What a mail says of a night: summary first, then charts, then numbers; in HTML and in plain text.

use std::collections::BTreeMap;

use anyhow::Context;
use askama::Template;
use uuid::Uuid;

use super::chart::{self, Line, OverNights, Point, Tonight};
use super::grids::{self, Grid};
use super::plain;
use crate::report::definition::{Chart, Definition, Table};
use crate::report::history::words::{self, Column};
use crate::report::history::{Change, Found, Kept, Series, Verdict};

/// Gmail cuts what is longer than about 102 KB.
pub const MOST_HTML: usize = 80 * 1024;
/// The most characters of a name.
const MOST_NAME: usize = 60;
/// The most charts of a mail.
const MOST_CHARTS: usize = 4;

/// A mail's content.
#[derive(Clone, Debug)]
pub struct Content {
    /// What it is about.
    pub subject: String,
    /// The HTML, under [`MOST_HTML`] bytes.
    pub html: String,
    /// The same in plain text.
    pub text: String,
    /// The charts that the HTML names.
    pub charts: Vec<Picture>,
}

/// A chart as a part of the mail.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Its content id.
    pub id: String,
    /// A name for those who save it.
    pub name: String,
    /// What it shows, for those who do not see it.
    pub alt: String,
    /// The picture.
    pub png: Vec<u8>,
}

/// Where the full report is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Full {
    /// Attached under this name.
    Attached(String),
    /// At this address.
    Linked(String),
    /// Elsewhere, as this sentence says.
    Said(String),
}

#[derive(Template)]
#[template(path = "mail/night.html")]
pub(super) struct Page {
    pub(super) subject: String,
    pub(super) preview: String,
    pub(super) title: String,
    pub(super) moment: String,
    pub(super) verdict: String,
    pub(super) tone: &'static str,
    pub(super) mark: &'static str,
    pub(super) parts: Vec<Part>,
    pub(super) basis: String,
    pub(super) notes: Vec<String>,
    pub(super) charts: Vec<Picture>,
    pub(super) grids: Vec<Grid>,
    pub(super) link: Option<String>,
    pub(super) full: String,
    pub(super) made: String,
}

/// Some sentences under a title.
pub(super) struct Part {
    pub(super) title: String,
    pub(super) items: Vec<Item>,
    pub(super) n_more: usize,
}

pub(super) struct Item {
    pub(super) text: String,
    pub(super) causes: Vec<String>,
}

/// Composes the mail of a night. `past` are the nights before it, the latest first; `id` makes the charts' content ids.
///
/// # Errors
/// A chart cannot be drawn.
pub fn compose(
    definition: &Definition,
    found: &Found,
    past: &[Kept],
    full: &Full,
    id: Uuid,
) -> anyhow::Result<Content> {
    let names = words::names(found).into_iter().map(|it| (it.0, plain::tame(&it.1, MOST_NAME))).collect();
    let found = &tamed(found, &names);
    let charts = charts(definition, found, past, &names, id)?;
    // Fewer rows until it fits: what is most important comes first in every table and list.
    let mut limit = 60;
    loop {
        let page = page(definition, found, &names, full, charts.clone(), limit);
        let html = page.render().context("render the mail")?;
        if html.len() <= MOST_HTML || limit == 1 {
            return Ok(Content { subject: page.subject.clone(), text: plain::text(&page), html, charts });
        }
        limit /= 2;
    }
}

fn page(
    definition: &Definition,
    found: &Found,
    names: &BTreeMap<String, String>,
    full: &Full,
    charts: Vec<Picture>,
    limit: usize,
) -> Page {
    let parts = parts(found, names, limit);
    let tone = if !found.good {
        "worse"
    } else if found.quiet(Verdict::Better).next().is_some() {
        "better"
    } else {
        "dim"
    };
    let preview = parts.first().and_then(|it| it.items.first()).map_or_else(|| found.basis(), |it| it.text.clone());
    let grids = definition.show.tables.iter().filter_map(|it| match it {
        Table::Changes => grids::changes(found, names, limit),
        Table::Means => grids::means(found, names, limit),
        Table::Baseline => grids::baseline(found, names, limit),
    });
    let (link, said) = match full {
        Full::Linked(url) => (Some(url.clone()), format!("The full report: {url}")),
        Full::Attached(name) => (None, format!("The full report is attached: {name}. It opens in any browser.")),
        Full::Said(text) => (None, text.clone()),
    };
    let sweeps: Vec<&str> = found.sweeps.iter().map(|it| it.slug.as_str()).collect();
    let programs: Vec<&str> = found.provenance.programs.iter().map(String::as_str).collect();
    Page {
        subject: subject(definition, found),
        preview,
        title: found.title.clone(),
        moment: words::moment(&found.at),
        verdict: capitalised(&found.verdict()),
        tone,
        mark: if found.good { "●" } else { "▼" },
        parts,
        basis: found.basis(),
        notes: found.notes.clone(),
        charts,
        grids: grids.collect(),
        link,
        full: said,
        made: format!("Sweeps: {}. Programs: {}.", or_none(&sweeps), or_none(&programs)),
    }
}

fn or_none(items: &[&str]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |it| it.to_uppercase().chain(chars).collect())
}

fn subject(definition: &Definition, found: &Found) -> String {
    let template = definition.mail.as_ref().map_or("{title}: {verdict}", |it| it.subject.as_str());
    let mut subject = String::new();
    let mut rest = template;
    // One pass: what is filled in is not read again.
    while let Some((before, after)) = rest.split_once('{') {
        subject += before;
        let (word, after) = after.split_once('}').unwrap_or((after, ""));
        subject += &match word {
            "title" => found.title.clone(),
            "verdict" => found.verdict(),
            "date" => words::day(&found.at).to_owned(),
            other => format!("{{{other}}}"),
        };
        rest = after;
    }
    subject + rest
}

/// What got worse, broke, got better; in this order.
fn parts(found: &Found, names: &BTreeMap<String, String>, limit: usize) -> Vec<Part> {
    let say = |change: &Change| {
        let causes = change.causes.iter().filter_map(|it| found.causes.get(*it)).map(words::cause);
        let mut causes: Vec<String> = causes.map(|it| format!("may be due to {it}")).collect();
        if causes.is_empty() && change.difference.is_some() {
            causes.push("nothing that is recorded of it differs".to_owned());
        }
        Item { text: format!("{}.", words::sentence(change, &names[&change.series.source], found.level)), causes }
    };
    let mut parts = Vec::new();
    let mut add = |title: &str, items: Vec<Item>| {
        if !items.is_empty() {
            let n_more = items.len().saturating_sub(limit);
            let items = items.into_iter().take(limit).collect();
            parts.push(Part { title: title.to_owned(), items, n_more });
        }
    };
    let broke = found.broke.iter().map(|it| Item { text: it.clone(), causes: Vec::new() });
    add("Regressions", found.regressions().map(say).collect());
    add("Problems", broke.collect());
    add("Worse, without an alarm", found.quiet(Verdict::Worse).map(say).collect());
    add("Better", found.quiet(Verdict::Better).map(say).collect());
    add("Changed", found.quiet(Verdict::Changed).map(say).collect());
    add("Not comparable", found.quiet(Verdict::Redefined).map(say).collect());
    parts
}

/// The charts that the definition asks for: metrics that changed come first.
fn charts(
    definition: &Definition,
    found: &Found,
    past: &[Kept],
    names: &BTreeMap<String, String>,
    id: Uuid,
) -> anyhow::Result<Vec<Picture>> {
    let mut labels: Vec<&str> = Vec::new();
    let moved = found.changes.iter().filter(|it| !matches!(it.verdict, Verdict::Same | Verdict::Unclear));
    for it in moved.map(|it| &it.series).chain(&found.series).filter(|it| it.mean.is_some() || !it.is_set) {
        if !labels.contains(&it.label.as_str()) && found.series.iter().any(|has| has.label == it.label) {
            labels.push(&it.label);
        }
    }
    let each = MOST_CHARTS.checked_div(definition.show.charts.len()).unwrap_or(0);
    let mut pictures = Vec::new();
    for kind in &definition.show.charts {
        for label in labels.iter().take(each) {
            let of: Vec<&Series> = found.series.iter().filter(|it| it.label == *label && it.mean.is_some()).collect();
            if of.is_empty() {
                continue;
            }
            let (svg, alt) = match kind {
                Chart::History => over_nights(definition, found, past, names, label, &of),
                Chart::Means => tonight(names, label, &of),
            };
            let n = pictures.len() + 1;
            pictures.push(Picture {
                id: format!("chart{n}.{id}@jobctl"),
                name: format!("chart{n}.png"),
                alt,
                png: chart::png(&svg)?,
            });
        }
    }
    Ok(pictures)
}

fn over_nights(
    definition: &Definition,
    found: &Found,
    past: &[Kept],
    names: &BTreeMap<String, String>,
    label: &str,
    of: &[&Series],
) -> (String, String) {
    let mut nights: Vec<&Found> =
        past.iter().take(definition.history.nights.saturating_sub(1)).map(|it| &it.found).collect();
    nights.reverse();
    nights.push(found);
    let point = |it: &Series| Some(Point { value: it.mean?, interval: it.interval });
    let line = |of: &&Series| Line {
        name: names[&of.source].clone(),
        points: nights
            .iter()
            .map(|night| {
                // Another definition's numbers are not on the same scale.
                night.series.iter().find(|it| it.key() == of.key() && it.metric == of.metric).and_then(point)
            })
            .collect(),
    };
    let lines: Vec<Line> = of.iter().take(chart::MOST_LINES).map(line).collect();
    let left_out = of.len() - lines.len();
    let more = if left_out > 0 { format!(" ({left_out} more not shown)") } else { String::new() };
    let days: Vec<String> =
        nights.iter().map(|it| words::day(&it.at).get(5..).unwrap_or_default().to_owned()).collect();
    let title = format!("{label} {}, night by night{more}", words::arrow(of[0].better));
    let alt = format!("{label} over {}: {}", words::count(days.len(), "night"), now(names, of));
    (OverNights { title, nights: days, lines }.svg(), alt)
}

fn tonight(names: &BTreeMap<String, String>, label: &str, of: &[&Series]) -> (String, String) {
    const MOST_ROWS: usize = 14;
    let row = |it: &&Series| Some((names[&it.source].clone(), Point { value: it.mean?, interval: it.interval }));
    let more = of.len().saturating_sub(MOST_ROWS);
    let more = if more > 0 { format!(" ({more} more not shown)") } else { String::new() };
    let title = format!("{label} {}, tonight{more}", words::arrow(of[0].better));
    let alt = format!("{label} tonight: {}", now(names, of));
    (Tonight { title, rows: of.iter().take(MOST_ROWS).filter_map(row).collect() }.svg(), alt)
}

/// Tonight's means in words.
fn now(names: &BTreeMap<String, String>, of: &[&Series]) -> String {
    let column = Column::of(of.iter().filter_map(|it| it.mean));
    let said = of
        .iter()
        .take(chart::MOST_LINES)
        .filter_map(|it| Some(format!("{} {}", names[&it.source], column.number(it.mean?))));
    said.collect::<Vec<_>>().join(", ")
}

/// The night with texts from elsewhere as a mail may show them: not too long, without control characters and marks that turn
/// the direction of writing.
fn tamed(found: &Found, names: &BTreeMap<String, String>) -> Found {
    let mut found = found.clone();
    found.title = plain::tame(&found.title, 200);
    for it in &mut found.causes {
        if let Some(source) = &mut it.source {
            *source = names.get(source).cloned().unwrap_or_else(|| plain::tame(source, MOST_NAME));
        }
        for text in [&mut it.before, &mut it.after] {
            *text = plain::tame(text, 200);
        }
    }
    for text in found.broke.iter_mut().chain(&mut found.notes) {
        *text = plain::tame(text, 400);
    }
    found.sweeps.truncate(20);
    found
}
