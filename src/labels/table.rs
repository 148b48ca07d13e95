//! Tables in files: CSV with whatever delimiter, JSON in three shapes, and lines of JSON, as columns of text.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// Words for a value that is not there.
const MISSING: [&str; 8] = ["", "nan", "na", "n/a", "null", "none", "-", "."];

/// A table of text: what a cell means is decided by whoever reads it.
#[derive(Clone, PartialEq, Debug)]
pub struct Table {
    /// The columns' names.
    pub columns: Vec<String>,
    /// As many cells each as there are columns; a cell that is not there is empty.
    pub rows: Vec<Row>,
}

/// A row and where it stands.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// The line that it begins at; of JSON that is not in lines, its number from 1.
    pub line: u64,
    /// The cells.
    pub cells: Vec<String>,
}

impl Table {
    /// Reads a file: JSON where its name ends so or its text begins so, else CSV.
    ///
    /// # Errors
    /// It cannot be read, is not UTF-8, or is not a table; the message says where.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(path, &bytes).with_context(|| path.display().to_string())
    }

    /// As [`Table::read`], of bytes that have been read.
    ///
    /// # Errors
    /// They are not UTF-8, or not a table.
    pub fn parse(name: &Path, bytes: &[u8]) -> anyhow::Result<Self> {
        let text = std::str::from_utf8(bytes).context("the file is not UTF-8 text")?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let ending = name.extension().and_then(|it| it.to_str()).unwrap_or_default().to_lowercase();
        let is_json = match ending.as_str() {
            "json" | "jsonl" | "ndjson" => true,
            "csv" | "tsv" | "tab" => false,
            _ => text.trim_start().starts_with(['{', '[']),
        };
        let table = if is_json { json(text) } else { csv(text) }?;
        ensure!(!table.rows.is_empty(), "the table has no rows");
        Ok(table)
    }

    /// The place of a column.
    ///
    /// # Errors
    /// There is none of this name: the message lists the columns and says which was probably meant. Or there are two.
    pub fn column(&self, name: &str) -> anyhow::Result<usize> {
        let mut found = self.columns.iter().enumerate().filter(|it| it.1 == name).map(|it| it.0);
        match (found.next(), found.next()) {
            (Some(place), None) => Ok(place),
            (Some(_), Some(_)) => bail!("two columns are called `{name}`: rename one"),
            (None, _) => {
                let near =
                    self.columns.iter().map(|it| (strsim::jaro_winkler(&it.to_lowercase(), &name.to_lowercase()), it));
                let near = near.filter(|it| it.0 > 0.8).max_by(|a, b| a.0.total_cmp(&b.0));
                let meant = near.map_or_else(String::new, |it| format!("; did you mean `{}`?", it.1));
                bail!("there is no column `{name}`{meant}\nthe columns are: {}", self.columns.join(", "))
            }
        }
    }

    /// The number in a cell; none where it is empty, one of the words for that, or not finite.
    ///
    /// # Errors
    /// It holds something else.
    pub fn number(&self, row: usize, column: usize) -> anyhow::Result<Option<f64>> {
        let row = &self.rows[row];
        number(&row.cells[column]).with_context(|| format!("line {}, column `{}`", row.line, self.columns[column]))
    }

    /// The text in a cell; none where it is empty.
    pub fn text(&self, row: usize, column: usize) -> Option<&str> {
        Some(self.rows[row].cells[column].as_str()).filter(|it| !it.is_empty())
    }
}

/// The number that a text is; none for words that say that there is none, and where it is not finite.
///
/// # Errors
/// It is something else.
pub fn number(text: &str) -> anyhow::Result<Option<f64>> {
    let text = text.trim();
    if MISSING.contains(&text.to_lowercase().as_str()) {
        return Ok(None);
    }
    let parsed = text.parse::<f64>().or_else(|error| {
        // 0,75 as half of the world writes it, where nothing else can be meant.
        let whole = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
        match text.split_once(',') {
            Some((before, after)) if whole(before.trim_start_matches(['-', '+'])) && whole(after) => {
                text.replace(',', ".").parse()
            }
            _ => Err(error),
        }
    });
    match parsed {
        Ok(value) => Ok(Some(value).filter(|it| it.is_finite())),
        Err(_) => bail!("`{}` is no number", text.chars().take(60).collect::<String>()),
    }
}

fn csv(text: &str) -> anyhow::Result<Table> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter(text))
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let columns: Vec<String> = reader
        .headers()
        .context("read the header")?
        .iter()
        .enumerate()
        .map(|(idx, it)| if it.is_empty() { format!("column {}", idx + 1) } else { it.to_owned() })
        .collect();
    ensure!(!text.trim().is_empty() && !columns.is_empty(), "the file is empty");
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.context("read a row")?;
        let line = record.position().map_or(0, |it| it.line() + n_blank_lines(text, it.byte()));
        ensure!(
            record.len() == columns.len(),
            "line {line} has {} cells, the header has {}",
            record.len(),
            columns.len()
        );
        if record.iter().any(|it| !it.is_empty()) {
            rows.push(Row { line, cells: record.iter().map(str::to_owned).collect() });
        }
    }
    Ok(Table { columns, rows })
}

/// The delimiter that splits the first lines alike, and into the most cells.
fn delimiter(text: &str) -> u8 {
    let head: String = text.lines().take(20).flat_map(|it| [it, "\n"]).collect();
    let quality = |delimiter: u8| {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .flexible(true)
            .from_reader(head.as_bytes());
        let widths: Vec<usize> = reader.records().filter_map(|it| Some(it.ok()?.len())).collect();
        let first = widths.first().copied().unwrap_or(0);
        let n_alike = widths.iter().filter(|it| **it == first).count();
        (first > 1, n_alike * 20 / widths.len().max(1), first)
    };
    let all = [b'|', b'\t', b';', b','];
    all.into_iter().max_by_key(|it| quality(*it)).unwrap_or(b',')
}

fn json(text: &str) -> anyhow::Result<Table> {
    let values = match parsed(text) {
        Ok(values) => values,
        Err(error) => parsed(&without_nan(text)).map_err(|_| error)?,
    };
    let mut rows: Vec<(u64, serde_json::Map<String, Value>)> = Vec::new();
    let mut push = |line: u64, value: Value, id: Option<String>| -> anyhow::Result<()> {
        let Value::Object(mut row) = value else { bail!("row {line} is no object: {}", short(&value)) };
        if let Some(id) = id {
            let name = if row.contains_key("id") { "key" } else { "id" };
            row.insert(name.to_owned(), Value::String(id));
        }
        rows.push((line, row));
        Ok(())
    };
    let n_values = values.len();
    for (line, value) in values {
        match value {
            Value::Array(items) if n_values == 1 => {
                for (idx, item) in items.into_iter().enumerate() {
                    push(idx as u64 + 1, item, None)?;
                }
            }
            Value::Object(items) if n_values == 1 && !items.is_empty() && items.values().all(Value::is_object) => {
                for (idx, (id, item)) in items.into_iter().enumerate() {
                    push(idx as u64 + 1, item, Some(id))?;
                }
            }
            other => push(line, other, None)?,
        }
    }
    // In the order in which they first appear.
    let mut place: BTreeMap<String, usize> = BTreeMap::new();
    let mut columns = Vec::new();
    for (_, row) in &rows {
        for name in row.keys() {
            place.entry(name.clone()).or_insert_with(|| {
                columns.push(name.clone());
                columns.len() - 1
            });
        }
    }
    let rows = rows
        .into_iter()
        .map(|(line, row)| {
            let mut cells = vec![String::new(); columns.len()];
            for (name, value) in row {
                cells[place[&name]] = match value {
                    Value::Null => String::new(),
                    Value::String(text) => text.trim().to_owned(),
                    other => other.to_string(),
                };
            }
            Row { line, cells }
        })
        .collect();
    Ok(Table { columns, rows })
}

/// The JSON values of a text, each with the line that it begins at.
fn parsed(text: &str) -> anyhow::Result<Vec<(u64, Value)>> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let (mut values, mut at, mut line) = (Vec::new(), 0, 1);
    loop {
        let start = stream.byte_offset();
        let skipped = text[start..].len() - text[start..].trim_start().len();
        line += text[at..start + skipped].matches('\n').count() as u64;
        at = start + skipped;
        match stream.next() {
            Some(value) => values.push((line, value.context("read the JSON")?)),
            None => return Ok(values),
        }
    }
}

/// Python writes NaN and Infinity, which JSON does not know: null in their place, strings left alone.
fn without_nan(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut in_string) = (text, false);
    while let Some(it) = rest.chars().next() {
        if !in_string && let Some(word) = ["NaN", "-Infinity", "Infinity"].iter().find(|word| rest.starts_with(**word))
        {
            out.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        if in_string && it == '\\' {
            let end = rest.char_indices().nth(2).map_or(rest.len(), |it| it.0);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        in_string ^= it == '"';
        out.push(it);
        rest = &rest[it.len_utf8()..];
    }
    out
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

/// How many empty lines follow a place in a text: the reader's places of rows stand before them.
fn n_blank_lines(text: &str, from: u64) -> u64 {
    let rest = usize::try_from(from).ok().and_then(|it| text.as_bytes().get(it..)).unwrap_or_default();
    rest.iter().take_while(|it| matches!(it, b'\r' | b'\n')).filter(|it| **it == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, text: &str) -> Table {
        Table::parse(Path::new(name), text.as_bytes()).unwrap()
    }

    fn cells(table: &Table) -> Vec<Vec<&str>> {
        table.rows.iter().map(|row| row.cells.iter().map(String::as_str).collect()).collect()
    }

    fn error(name: &str, text: &str) -> String {
        format!("{:#}", Table::parse(Path::new(name), text.as_bytes()).unwrap_err())
    }

    #[test]
    fn delimiters_are_guessed_and_quotes_obeyed() {
        for delimiter in [",", ";", "\t", "|"] {
            let text = "name,a\n\"x, \"\"y\"\"; z|\tw\",1.5\n\nplain, 2 \n".replace(",a", &format!("{delimiter}a"));
            let text = text.replace(",1.5", &format!("{delimiter}1.5")).replace(", 2", &format!("{delimiter} 2"));
            let table = parse("t.csv", &text);
            assert_eq!(table.columns, ["name", "a"], "{delimiter:?}");
            assert_eq!(cells(&table), [["x, \"y\"; z|\tw", "1.5"], ["plain", "2"]], "{delimiter:?}");
            assert_eq!(table.rows[1].line, 4);
        }
    }

    #[test]
    fn json_comes_in_three_shapes_and_in_lines() {
        let expected = [["1", "p"], ["2.5", ""]];
        for text in [r#"[{"a": 1, "b": "p"}, {"a": 2.5, "b": null}]"#, "{\"a\": 1, \"b\": \"p\"}\n\n{\"a\": 2.5}\n"] {
            let table = parse("t", text);
            assert_eq!(
                (table.columns.join(","), cells(&table)),
                ("a,b".to_owned(), expected.map(|it| it.to_vec()).to_vec())
            );
        }
        let table = parse("t.json", r#"{"x": {"a": 1}, "y": {"a": NaN, "b": "NaN \" Infinity"}}"#);
        assert_eq!(table.columns, ["a", "id", "b"]);
        assert_eq!(cells(&table), [["1", "x", ""], ["", "y", "NaN \" Infinity"]]);
        assert_eq!(parse("t.jsonl", "{\"a\": 1}\n\n{\"a\": 2}").rows[1].line, 3);
        assert_eq!(parse("t.json", r#"{"a": 1, "b": 2}"#).rows.len(), 1);
    }

    #[test]
    fn what_is_no_table_says_where() {
        assert!(error("t.csv", "a,b\n1,2\n3\n").contains("line 3 has 1 cells, the header has 2"));
        assert!(error("t.csv", "").contains("empty") && error("t.csv", "a,b\n").contains("no rows"));
        assert!(error("t.json", "[1, 2]").contains("row 1 is no object"));
        assert!(error("t.json", "{\"a\": ").contains("JSON"));
        let table = parse("t.csv", "clip_score,human\n1,2\n");
        let said = table.column("clipscore").unwrap_err().to_string();
        assert!(said.contains("did you mean `clip_score`") && said.contains("clip_score, human"), "{said}");
        assert!(parse("t.csv", "a,a\n1,2\n").column("a").is_err());
        assert!(Table::parse(Path::new("t.csv"), b"a\n\xff\n").is_err());
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        for (text, expected) in [
            ("1.5", Some(1.5)),
            ("-0,75", Some(-0.75)),
            ("1e-3", Some(1e-3)),
            (" NA ", None),
            ("nan", None),
            ("", None),
            ("inf", None),
        ] {
            assert_eq!(number(text).unwrap(), expected, "{text}");
        }
        assert!(number("1,234,567").is_err() && number("good").is_err());
    }
}
