//! Which column of a table of labels is what: guessed from its name, or told.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};

use super::table::Table;

/// What a column can be, with the names that columns have for it. The first is the field's own.
const FIELDS: [&[&str]; 25] = [
    &["item", "item code"],
    &["path", "image", "image path", "file", "filename", "file name", "picture", "img"],
    &["hash", "key", "picture hash", "content", "blake3"],
    &["sample", "image id", "text id", "source id", "prompt id", "id"],
    &["source", "model", "generator", "t2i model"],
    &[
        "rater",
        "rater id",
        "worker",
        "worker id",
        "annotator",
        "annotator id",
        "participant",
        "participant id",
        "user",
        "user id",
    ],
    &["aspect", "criterion", "dimension", "question"],
    &["value", "rating", "score", "answer", "opinion", "mos"],
    &["first", "first image", "image a", "image 1", "picture a", "a"],
    &["second", "second image", "image b", "image 2", "picture b", "b"],
    &["first_source", "source a", "source 1"],
    &["second_source", "source b", "source 2"],
    &["first_model", "model a", "model 1", "model first"],
    &["second_model", "model b", "model 2", "model second"],
    &["prompt", "text", "caption"],
    &["choice", "preferred", "preference", "winner", "verdict", "better", "vote"],
    &["shown", "order", "shown first"],
    &["reason", "comment", "why"],
    &["x", "box x"],
    &["y", "box y"],
    &["width", "w", "box width"],
    &["height", "h", "box height"],
    &["attention", "attention check", "attention passed", "passed"],
    &["judge", "judge kind"],
    &["variant"],
];

/// The place of the column for each field that there is one for.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Mapping(BTreeMap<&'static str, usize>);

fn plain(name: &str) -> String {
    let words: Vec<String> =
        name.split(|it: char| !it.is_alphanumeric()).filter(|it| !it.is_empty()).map(str::to_lowercase).collect();
    words.join(" ")
}

impl Mapping {
    /// Guesses; `told` are pairs of a column and a field, which go first. A field `-` leaves a column out.
    ///
    /// # Errors
    /// As [`Mapping::guess`]; or no column has ratings or choices.
    pub fn of(table: &Table, told: &[(String, String)]) -> anyhow::Result<Self> {
        let mapping = Self::guess(table, told)?;
        if !mapping.has("value") && !mapping.has("choice") {
            bail!(
                "no column looks like ratings or choices: tell which one is, `--map COLUMN=value` or `--map COLUMN=choice`\nthe columns are: {}",
                table.columns.join(", ")
            );
        }
        Ok(mapping)
    }

    /// As [`Mapping::of`], of a table that need not say anything of what it names.
    ///
    /// # Errors
    /// A told column or field does not exist, or a field is told twice.
    pub fn guess(table: &Table, told: &[(String, String)]) -> anyhow::Result<Self> {
        let mut mapping = BTreeMap::new();
        let mut taken = vec![false; table.columns.len()];
        for (column, field) in told {
            let place = table.column(column)?;
            taken[place] = true;
            if field == "-" {
                continue;
            }
            let known = FIELDS.iter().find(|it| it[0] == field).with_context(|| {
                let names: Vec<&str> = FIELDS.iter().map(|it| it[0]).collect();
                format!("`{field}` is no field; the fields are: {}", names.join(", "))
            })?;
            ensure!(mapping.insert(known[0], place).is_none(), "two columns are told to be `{field}`");
        }
        // A better name, earlier in the list, goes before a worse one, whichever column comes first.
        for field in FIELDS {
            if mapping.contains_key(field[0]) {
                continue;
            }
            let own = std::iter::once(plain(field[0])).chain(field.iter().map(|it| plain(it)));
            for name in own {
                let found = table.columns.iter().position(|it| plain(it) == name);
                if let Some(place) = found.filter(|it| !taken[*it]) {
                    taken[place] = true;
                    mapping.insert(field[0], place);
                    break;
                }
            }
        }
        Ok(Self(mapping))
    }

    /// Whether there is a column for a field.
    pub fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    /// A row's text for a field; none where there is no such column, or nothing in it.
    pub fn text<'a>(&self, table: &'a Table, row: usize, field: &str) -> Option<&'a str> {
        table.text(row, *self.0.get(field)?)
    }

    /// A row's number for a field.
    ///
    /// # Errors
    /// It holds something else.
    pub fn number(&self, table: &Table, row: usize, field: &str) -> anyhow::Result<Option<f64>> {
        self.0.get(field).map_or(Ok(None), |column| table.number(row, *column))
    }

    /// The columns' names by field.
    pub fn names<'a>(&self, table: &'a Table) -> BTreeMap<&'static str, &'a str> {
        self.0.iter().map(|(field, place)| (*field, table.columns[*place].as_str())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn fields(header: &str, told: &[(&str, &str)]) -> anyhow::Result<String> {
        let cells = vec!["1"; header.split(',').count()].join(",");
        let table = Table::parse(Path::new("t.csv"), format!("{header}\n{cells}\n").as_bytes())?;
        let told: Vec<_> = told.iter().map(|it| (it.0.to_owned(), it.1.to_owned())).collect();
        let names = Mapping::of(&table, &told)?;
        Ok(names.names(&table).iter().map(|it| format!("{}={}", it.0, it.1)).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn columns_are_known_by_many_names() {
        assert_eq!(
            fields("Image Path,worker_id,Rating,W,h,X,y", &[]).unwrap(),
            "height=h path=Image Path rater=worker_id value=Rating width=W x=X y=y"
        );
        assert_eq!(
            fields("model_a,model_b,prompt,winner", &[]).unwrap(),
            "choice=winner first_model=model_a prompt=prompt second_model=model_b"
        );
        assert_eq!(
            fields("t2i_model,source_id,worker_id,answer", &[]).unwrap(),
            "rater=worker_id sample=source_id source=t2i_model value=answer"
        );
    }

    #[test]
    fn what_is_told_goes_before_what_is_guessed() {
        assert_eq!(fields("file,score,human", &[("human", "value")]).unwrap(), "path=file value=human");
        assert_eq!(fields("file,score,id", &[("id", "-")]).unwrap(), "path=file value=score");
        assert!(fields("file,score", &[("file", "pth")]).unwrap_err().to_string().contains("the fields are"));
        assert!(fields("file,scored", &[]).unwrap_err().to_string().contains("--map COLUMN=value"));
    }
}
