//! From the text of a definition to a [`Definition`], or to everything that is wrong with it.

use std::time::Duration;

use lettre::message::Mailbox;
use toml::de::{DeTable, DeValue};

use super::{Alarm, Attach, Chart, Compare, Definition, History, Mail, Pattern, Show, Sweeps, Table, Take, When};
use crate::metrics;
use crate::sweep::Axis;
use crate::sweep::block::{Block, Placed, listed, meant};
use crate::sweep::fault::{Collector, Faults};

const TOP: &[&str] = &["name", "title", "sweeps", "compare", "show", "alarm", "history", "mail"];
const SWEEPS: &[&str] = &["names", "take", "window"];
const COMPARE: &[&str] = &["models", "baseline", "metrics"];
const SHOW: &[&str] = &["tables", "charts"];
const ALARM: &[&str] = &["metric", "model", "when", "threshold", "relative"];
const HISTORY: &[&str] = &["nights", "level"];
const MAIL: &[&str] = &["to", "from", "subject", "only_on_regression", "report", "link", "max_mb"];
const HOMES: [(&str, &[&str]); 6] = [
    ("[sweeps]", SWEEPS),
    ("[compare]", COMPARE),
    ("[show]", SHOW),
    ("[[alarm]]", ALARM),
    ("[history]", HISTORY),
    ("[mail]", MAIL),
];
/// The most charts of a mail.
const MOST_CHARTS: usize = 4;
/// The most that servers commonly take is 25 MB; base64 makes a third more of what is attached.
const MOST_MB: f64 = 18.0;
const DEFAULT_MB: f64 = 15.0;

pub(super) fn definition(text: &str, file_name: &str) -> Result<Definition, Faults> {
    let faults = Collector::new(text, file_name);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        faults.at(&error.span().unwrap_or(text.len()..text.len()), error.message(), None);
    }
    let definition = errors.is_empty().then(|| top(root.get_ref(), &faults));
    match (faults.finish(), definition) {
        (Some(faults), _) => Err(faults),
        (None, definition) => Ok(definition.expect("a text with syntax errors has faults")),
    }
}

/// The definition, with anything in the place of what is wrong; `faults` knows that.
fn top<'a>(table: &'a DeTable<'a>, faults: &'a Collector) -> Definition {
    let block = Block { title: "the report", table, span: 0..0, faults };
    check_keys(&block, TOP);
    let name = block.required_text("name", "\"NAME\"").inspect(|it| check_name(&block, it)).unwrap_or_default().value;
    let title = block.text("title").map_or_else(|| name.clone(), |it| it.value);
    if block.get("sweeps").is_none() {
        block.missing("sweeps", "{ names = [\"NAME\"] }");
    }
    let sweeps = sub(&block, "sweeps", "[sweeps]", SWEEPS).map(|it| sweeps(&it));
    let compare = sub(&block, "compare", "[compare]", COMPARE).map(|it| compare(&it));
    let show = sub(&block, "show", "[show]", SHOW).map(|it| show(&it));
    let history = sub(&block, "history", "[history]", HISTORY).map(|it| history(&it));
    let mail = sub(&block, "mail", "[mail]", MAIL).map(|it| mail(&it));
    let compare = compare.unwrap_or_default();
    let mut show = show.unwrap_or_else(default_show);
    if compare.baseline.is_none() {
        show.tables.retain(|it| *it != Table::Baseline);
    }
    Definition {
        name,
        title,
        sweeps: sweeps.unwrap_or(Sweeps { names: Vec::new(), take: Take::Latest, window: None }),
        compare,
        show,
        alarms: alarms(&block),
        history: history.unwrap_or(History { nights: 14, level: 0.95 }),
        mail,
    }
}

/// The name is a folder's, and a part of file names.
fn check_name(block: &Block, name: &Placed<String>) {
    let plain = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
    let starts_well = name.value.starts_with(|it: char| it.is_ascii_alphanumeric());
    if name.value.len() > 64 || !starts_well || !name.value.chars().all(plain) {
        let message =
            "a report's name has at most 64 letters a to z, digits, `-`, `_` and `.`, a letter or digit first";
        block.faults.at(&name.span, message, None);
    }
}

/// The table of `key`, where it is there.
fn sub<'a>(top: &Block<'a>, key: &str, title: &'static str, keys: &[&str]) -> Option<Block<'a>> {
    let value = top.get(key)?;
    let DeValue::Table(table) = value.get_ref() else {
        top.faults.at(&value.span(), format!("`{key}` is a block"), format!("write `{title}` and its keys below it"));
        return None;
    };
    let block = Block { title, table, span: value.span(), faults: top.faults };
    check_keys(&block, keys);
    Some(block)
}

/// Takes down every key that is not among `keys`, with what was meant.
fn check_keys(block: &Block, keys: &[&str]) {
    for key in block.table.keys().map(|it| it.get_ref().as_ref()).filter(|it| !keys.contains(it)) {
        let home = HOMES.iter().find(|it| it.1.contains(&key)).map(|it| format!("`{key}` belongs to {}", it.0));
        let help = home.or_else(|| meant(key, keys.iter().copied()));
        let help = help.unwrap_or_else(|| format!("its keys are {}", listed(keys)));
        block.faults.at(&block.key_span(key), format!("`{key}` is no key of {}", block.title), help);
    }
}

/// The texts of `key`: one, or a list that is not empty.
fn texts(block: &Block, key: &str) -> Option<Vec<Placed<String>>> {
    let values = list(block, key, || block.text_axis(key))?.values;
    if values.is_empty() {
        let help = format!("give `{key}` a value or several, or take the key out");
        block.faults.at(&block.key_span(key), format!("`{key}` is empty"), help);
    }
    for it in values.iter().filter(|it| it.value.trim().is_empty() || it.value.chars().any(char::is_control)) {
        block.faults.at(
            &it.span,
            format!("`{key}` is empty, or has line breaks or other control characters in it"),
            None,
        );
    }
    Some(values)
}

fn patterns(block: &Block, key: &str) -> Vec<Pattern> {
    texts(block, key).unwrap_or_default().into_iter().map(|it| Pattern::new(it.value)).collect()
}

fn sweeps(block: &Block) -> Sweeps {
    if block.get("names").is_none() {
        block.missing("names", "[\"NAME\"]");
    }
    let take = block.choice("take", &[("latest", Take::Latest), ("all", Take::All)]).unwrap_or(Take::Latest);
    let window = block.text("window").and_then(|it| {
        let read = humantime::parse_duration(&it.value).ok().filter(|it| *it >= Duration::from_secs(60));
        if read.is_none() {
            let help = "such as \"36h\", \"7days\" or \"2weeks\"".to_owned();
            block.faults.at(&it.span, format!("`{}` is no length of time", it.value), help);
        }
        read
    });
    if take == Take::All && window.is_none() && block.get("window").is_none() {
        let help = "add `window = \"7days\"`, say".to_owned();
        block.faults.at(&block.key_span("take"), "all sweeps of a name would be all there ever were", help);
    }
    Sweeps { names: patterns(block, "names"), take, window }
}

fn compare(block: &Block) -> Compare {
    Compare {
        models: patterns(block, "models"),
        baseline: block.text("baseline").map(|it| Pattern::new(it.value)),
        metrics: metric_names(block, "metrics"),
    }
}

/// The metrics that `key` names, by name and variant.
fn metric_names(block: &Block, key: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for it in texts(block, key).unwrap_or_default() {
        match metrics::parse(&it.value) {
            Ok(rows) => found.extend(rows.iter().map(|it| (it.name.to_owned(), it.variant.to_owned()))),
            Err(unknown) => {
                let mut names: Vec<&str> = metrics::TABLE.iter().map(|it| it.name).collect();
                names.dedup();
                let help = unknown.suggestion.map(|it| format!("did you mean `{it}`?"));
                let help = help.unwrap_or_else(|| format!("metrics are {}", listed(names)));
                block.faults.at(&it.span, format!("no metric is called `{}`", unknown.name), help);
            }
        }
    }
    found
}

/// What is shown unless a definition says otherwise.
fn default_show() -> Show {
    Show { tables: vec![Table::Changes, Table::Means, Table::Baseline], charts: vec![Chart::History] }
}

fn show(block: &Block) -> Show {
    let default = default_show();
    let charts = list(block, "charts", || block.choice_axis("charts", &Chart::WORDS)).map(|it| it.values);
    if let Some(it) = charts.as_ref().and_then(|it| it.get(MOST_CHARTS)) {
        block.faults.at(&it.span, format!("a mail has at most {MOST_CHARTS} charts"), None);
    }
    let tables = list(block, "tables", || block.choice_axis("tables", &Table::WORDS)).map(|it| it.values);
    Show {
        tables: tables.map_or(default.tables, |it| it.into_iter().map(|it| it.value).collect()),
        charts: charts.map_or(default.charts, |it| it.into_iter().map(|it| it.value).collect()),
    }
}

/// The values of `key`, none of them where the list is empty.
fn list<T>(block: &Block, key: &str, read: impl Fn() -> Option<Axis<Placed<T>>>) -> Option<Axis<Placed<T>>> {
    match block.get(key)?.get_ref() {
        DeValue::Array(list) if list.is_empty() => Some(Axis { values: Vec::new(), varies: true }),
        _ => read(),
    }
}

fn alarms(top: &Block) -> Vec<Alarm> {
    let Some(value) = top.get("alarm") else { return Vec::new() };
    let DeValue::Array(list) = value.get_ref() else {
        top.faults.at(&value.span(), "`alarm` is a list of blocks", "write `[[alarm]]`, in double brackets".to_owned());
        return Vec::new();
    };
    let mut alarms = Vec::with_capacity(list.len());
    for item in list.iter() {
        let DeValue::Table(table) = item.get_ref() else {
            top.wrong_type("alarm", item, "a list of blocks", "write `[[alarm]]` blocks".to_owned());
            continue;
        };
        let block = Block { title: "[[alarm]]", table, span: item.span(), faults: top.faults };
        check_keys(&block, ALARM);
        if block.get("metric").is_none() {
            block.missing("metric", "\"glcm_score\"");
        }
        let positive = |key: &str| block.number(key, "a number of at least 0", |it| it >= 0.0).unwrap_or(0.0);
        let choices = [("worse", When::Worse), ("better", When::Better), ("changed", When::Changed)];
        alarms.push(Alarm {
            metrics: metric_names(&block, "metric"),
            models: patterns(&block, "model"),
            when: block.choice("when", &choices).unwrap_or(When::Worse),
            threshold: positive("threshold"),
            relative: positive("relative"),
        });
    }
    alarms
}

fn history(block: &Block) -> History {
    let level = block.number("level", "a number from 0.5 to 0.9999", |it| (0.5..=0.9999).contains(&it));
    History { nights: block.integer("nights", 2..=366).map_or(14, |it| it as usize), level: level.unwrap_or(0.95) }
}

fn mail(block: &Block) -> Mail {
    let mailbox = |it: &Placed<String>| {
        let read = it.value.parse::<Mailbox>();
        if read.is_err() {
            let help = "write \"name@example.org\" or \"Name <name@example.org>\"".to_owned();
            block.faults.at(&it.span, format!("`{}` is no mail address", it.value), help);
        }
        read.ok()
    };
    if block.get("to").is_none() {
        block.missing("to", "[\"team@example.org\"]");
    }
    let choices = [("attach", Attach::Attached), ("link", Attach::Linked(String::new())), ("none", Attach::Left)];
    let word = block.text("report");
    let mut report = Attach::Attached;
    if let Some(word) = word {
        match choices.iter().find(|it| it.0 == word.value) {
            Some(choice) => report = choice.1.clone(),
            None => {
                let words = choices.iter().map(|it| it.0);
                let help =
                    meant(&word.value, words.clone()).unwrap_or_else(|| format!("it is one of {}", listed(words)));
                block.faults.at(&word.span, format!("`report` cannot be `{}`", word.value), help);
            }
        }
    }
    match (&mut report, block.text("link")) {
        (Attach::Linked(to), Some(link)) => {
            if !link.value.starts_with("https://") && !link.value.starts_with("http://") {
                let help = "write \"https://reports.example.org/{run}/report.html\"".to_owned();
                block.faults.at(&link.span, format!("`{}` is no address that people can open", link.value), help);
            }
            *to = link.value;
        }
        (Attach::Linked(_), None) => block.missing("link", "\"https://reports.example.org/{run}/report.html\""),
        (_, Some(link)) => {
            let help = "add `report = \"link\"`, or take it out".to_owned();
            block.faults.at(&link.span, "`link` means nothing where the report is not linked", help);
        }
        (_, None) => {}
    }
    let subject = block.text("subject");
    if let Some(it) = &subject {
        check_subject(block, it);
    }
    let megabytes = format!("a number from 0 to {MOST_MB}, for servers refuse what is larger");
    let max_mb = block.number("max_mb", &megabytes, |it| (0.0..=MOST_MB).contains(&it)).unwrap_or(DEFAULT_MB);
    Mail {
        to: texts(block, "to").unwrap_or_default().iter().filter_map(mailbox).collect(),
        from: block.text("from").as_ref().and_then(mailbox),
        subject: subject.map_or_else(|| "{title}: {verdict}".to_owned(), |it| it.value),
        only_on_regression: truth(block, "only_on_regression"),
        report,
        max_bytes: (max_mb * 1e6) as usize,
    }
}

/// Takes down what stands in braces and means nothing.
fn check_subject(block: &Block, subject: &Placed<String>) {
    for word in subject.value.split('{').skip(1).map(|it| it.split('}').next().unwrap_or_default()) {
        if !["title", "verdict", "date"].contains(&word) {
            let help = "a subject may have `{title}`, `{verdict}` and `{date}`".to_owned();
            block.faults.at(&subject.span, format!("`{{{word}}}` means nothing"), help);
        }
    }
}

fn truth(block: &Block, key: &str) -> bool {
    match block.get(key) {
        None => false,
        Some(value) => match value.get_ref() {
            DeValue::Boolean(it) => *it,
            _ => {
                block.wrong_type(key, value, "true or false", None);
                false
            }
        },
    }
}
