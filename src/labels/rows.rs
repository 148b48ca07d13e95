//! Rows of a table as labels whose pictures are still to be found.

use anyhow::{Context, bail, ensure};

use super::mapping::Mapping;
use super::table::Table;
use super::{Area, Choice, Judge, JudgeKind, Scale, Shown};

/// How a row names a picture.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Named {
    /// A file.
    Path(String),
    /// A hash, or the beginning of one: of the recipe, or of the file.
    Hash(String),
    /// A sample of a source of the sweep.
    Sample {
        /// The sample's name.
        sample: String,
        /// The source's name, or its model; none where the sweep has one source alone.
        source: Option<String>,
    },
}

/// What a row is about.
#[derive(Clone, PartialEq, Debug)]
pub enum About {
    /// Something that a key file names.
    Item(String),
    /// One picture.
    Picture(Named),
    /// Two pictures.
    Pictures(Named, Named),
    /// Two models by a prompt.
    Models(String, String, String),
}

/// What a row says.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Says {
    /// A number.
    Rating(f64),
    /// One of two.
    Choice(Choice),
}

/// A row.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// Where it stands in the file.
    pub line: u64,
    /// What it is about.
    pub about: About,
    /// Which part of it.
    pub area: Option<Area>,
    /// On which aspect.
    pub aspect: String,
    /// By whom.
    pub judge: Judge,
    /// What it says.
    pub says: Says,
    /// The scale of a rating.
    pub scale: Option<Scale>,
    /// In which order two were shown.
    pub shown: Shown,
    /// Why.
    pub reason: String,
    /// Of an attention check: whether it was passed.
    pub attention: Option<bool>,
}

/// What holds where a column is missing.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// The aspect.
    pub aspect: Option<String>,
    /// The rater.
    pub rater: Option<String>,
    /// What kind of judge.
    pub judge: JudgeKind,
    /// The scale of ratings.
    pub scale: Option<Scale>,
}

/// What a table came to.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// The rows that say something.
    pub entries: Vec<Entry>,
    /// Rows without a rating or a choice: not answered.
    pub n_unanswered: usize,
    /// What is wrong, one for a row.
    pub faults: Vec<String>,
}

/// Reads every row.
pub fn read(table: &Table, mapping: &Mapping, defaults: &Defaults) -> Read {
    let mut read = Read::default();
    for row in 0..table.rows.len() {
        match entry(table, mapping, defaults, row) {
            Ok(Some(entry)) => read.entries.push(entry),
            Ok(None) => read.n_unanswered += 1,
            Err(error) => read.faults.push(format!("line {}: {error:#}", table.rows[row].line)),
        }
    }
    read
}

fn entry(table: &Table, mapping: &Mapping, defaults: &Defaults, row: usize) -> anyhow::Result<Option<Entry>> {
    let text = |field: &str| mapping.text(table, row, field).map(str::to_owned);
    let is_choice = mapping.has("choice");
    if is_choice && mapping.has("value") {
        bail!("the table has both ratings and choices: leave one out with `--map COLUMN=-`");
    }
    let about = about(&text, is_choice)?;
    let says = if is_choice {
        let Some(word) = text("choice") else { return Ok(None) };
        Says::Choice(choice(&word, &about)?)
    } else {
        let Some(value) = mapping.number(table, row, "value")? else { return Ok(None) };
        if let Some(scale) = defaults.scale {
            ensure!(
                (scale.low..=scale.high).contains(&value),
                "{value} is not on the scale from {} to {}",
                scale.low,
                scale.high
            );
        }
        Says::Rating(value)
    };
    let kind = match text("judge") {
        Some(word) => word.to_lowercase().parse().context("who judges")?,
        None => defaults.judge,
    };
    let name = text("rater")
        .or_else(|| defaults.rater.clone())
        .context("no rater: is a column missing? `--rater NAME` says who")?;
    Ok(Some(Entry {
        line: table.rows[row].line,
        about,
        area: area(table, mapping, row)?,
        aspect: text("aspect").or_else(|| defaults.aspect.clone()).context("no aspect: `--aspect NAME` says which")?,
        judge: Judge { kind, name, variant: text("variant").unwrap_or_default() },
        says,
        scale: defaults.scale,
        shown: text("shown").map_or(Ok(Shown::Unknown), |it| shown(&it))?,
        reason: text("reason").unwrap_or_default(),
        attention: text("attention").map_or(Ok(None), |it| attention(&it))?,
    }))
}

fn about(text: &impl Fn(&str) -> Option<String>, is_pair: bool) -> anyhow::Result<About> {
    if let Some(item) = text("item") {
        return Ok(About::Item(item));
    }
    let named = |word: String| {
        let is_hash = word.len() >= 8 && word.len() <= 64 && word.bytes().all(|it| it.is_ascii_hexdigit());
        if is_hash { Named::Hash(word.to_lowercase()) } else { Named::Path(word) }
    };
    if !is_pair {
        if let Some(hash) = text("hash") {
            return Ok(About::Picture(Named::Hash(hash.to_lowercase())));
        }
        if let Some(path) = text("path") {
            return Ok(About::Picture(Named::Path(path)));
        }
        let sample = text("sample").context("it names no picture: a path, a hash, or a sample and its source")?;
        return Ok(About::Picture(Named::Sample { sample, source: text("source") }));
    }
    if let (Some(first), Some(second)) = (text("first"), text("second")) {
        return Ok(About::Pictures(named(first), named(second)));
    }
    if let (Some(sample), Some(first), Some(second)) = (text("sample"), text("first_source"), text("second_source")) {
        let of = |source: String| Named::Sample { sample: sample.clone(), source: Some(source) };
        return Ok(About::Pictures(of(first), of(second)));
    }
    if let (Some(first), Some(second)) = (text("first_model"), text("second_model")) {
        ensure!(first != second, "`{first}` is compared with itself");
        let prompt = text("prompt").or_else(|| text("sample")).context("no prompt says what the models made")?;
        return Ok(About::Models(first, second, prompt));
    }
    bail!(
        "it names no pair: first and second, a sample with first_source and second_source, or first_model, second_model and prompt"
    )
}

/// The part of a picture that a row is about; none where it has no place.
///
/// # Errors
/// Half a place, a part without pixels, or what is no number of pixels.
pub fn area(table: &Table, mapping: &Mapping, row: usize) -> anyhow::Result<Option<Area>> {
    let side = |field: &str| -> anyhow::Result<Option<u32>> {
        let Some(value) = mapping.number(table, row, field)? else { return Ok(None) };
        ensure!(value >= 0.0 && value.fract() == 0.0 && value <= f64::from(i32::MAX), "{field} is {value}, no pixel");
        Ok(Some(value as u32))
    };
    match (side("x")?, side("y")?, side("width")?, side("height")?) {
        (Some(x), Some(y), Some(width), Some(height)) => {
            ensure!(width > 0 && height > 0, "the patch is empty");
            Ok(Some(Area { x, y, width, height }))
        }
        // A picture's own size may stand in a table without there being a patch.
        (None, None, ..) => Ok(None),
        _ => bail!("a patch needs x, y, width and height"),
    }
}

fn choice(word: &str, about: &About) -> anyhow::Result<Choice> {
    let (first, second) = match about {
        About::Models(first, second, _) => (Some(first.as_str()), Some(second.as_str())),
        About::Pictures(first, second) => (name(first), name(second)),
        _ => (None, None),
    };
    if first != second {
        if Some(word) == first {
            return Ok(Choice::First);
        }
        if Some(word) == second {
            return Ok(Choice::Second);
        }
    }
    Ok(match word.to_lowercase().replace('_', " ").as_str() {
        "first" | "a" | "1" | "left" | "image 1" | "image a" | "model a" | "the first image is better" => Choice::First,
        "second" | "b" | "2" | "right" | "image 2" | "image b" | "model b" | "the second image is better" => {
            Choice::Second
        }
        "tie" | "equal" | "same" | "both" | "neither" | "draw" | "0" => Choice::Tie,
        "invalid" | "?" => Choice::Invalid,
        _ => bail!(
            "`{word}` is no choice: first, second or tie (or a, b; 1, 2; left, right; the name of one of the two)"
        ),
    })
}

/// The word by which a row may choose a picture.
fn name(named: &Named) -> Option<&str> {
    match named {
        Named::Path(word) | Named::Hash(word) => Some(word),
        Named::Sample { source, .. } => source.as_deref(),
    }
}

fn shown(word: &str) -> anyhow::Result<Shown> {
    Ok(match word.to_lowercase().replace('_', " ").as_str() {
        "first" | "first first" | "a" | "1" | "ab" | "left" => Shown::FirstFirst,
        "second" | "second first" | "b" | "2" | "ba" | "right" => Shown::SecondFirst,
        "unknown" => Shown::Unknown,
        _ => bail!("`{word}` is no order: first, second or unknown"),
    })
}

fn attention(word: &str) -> anyhow::Result<Option<bool>> {
    Ok(match word.to_lowercase().as_str() {
        "passed" | "pass" | "true" | "yes" | "1" => Some(true),
        "failed" | "fail" | "false" | "no" | "0" => Some(false),
        "none" | "-" => None,
        _ => bail!(
            "`{word}` does not say whether an attention check was passed: passed or failed, empty for ordinary rows"
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn rows(text: &str) -> Read {
        let table = Table::parse(Path::new("t.csv"), text.as_bytes()).unwrap();
        let mapping = Mapping::of(&table, &[]).unwrap();
        let scale = Some(Scale { low: 1.0, high: 5.0 });
        read(
            &table,
            &mapping,
            &Defaults { aspect: Some("quality".to_owned()), rater: None, judge: JudgeKind::Human, scale },
        )
    }

    #[test]
    fn a_rating_is_of_a_picture_or_of_a_part_of_it() {
        let read = rows(
            "path,rater,rating,x,y,w,h,attention\na.png,ann,4,,,,,\na.png,bob,,,,,,\nb.png,bob,2,8,16,64,32,failed\n",
        );
        assert_eq!((read.entries.len(), read.n_unanswered, read.faults.len()), (2, 1, 0), "{:?}", read.faults);
        assert_eq!(read.entries[0].about, About::Picture(Named::Path("a.png".to_owned())));
        assert_eq!((read.entries[0].says, read.entries[0].area), (Says::Rating(4.0), None));
        assert_eq!(read.entries[1].area, Some(Area { x: 8, y: 16, width: 64, height: 32 }));
        assert_eq!(read.entries[1].attention, Some(false));
    }

    #[test]
    fn a_choice_is_one_of_two_however_it_is_written() {
        let read = rows(
            "model_a,model_b,prompt,rater,winner\nours,Sana,p1,ann,Sana\nours,Sana,p2,ann,A\nours,Sana,p3,ann,tie\nours,Sana,p4,ann,maybe\n",
        );
        let says: Vec<Says> = read.entries.iter().map(|it| it.says).collect();
        assert_eq!(says, [Says::Choice(Choice::Second), Says::Choice(Choice::First), Says::Choice(Choice::Tie)]);
        assert!(
            read.faults[0].contains("line 5") && read.faults[0].contains("`maybe` is no choice"),
            "{:?}",
            read.faults
        );
        let read = rows("sample,first_source,second_source,rater,choice,order\np1,x,y,ann,y,ba\n");
        assert_eq!((read.entries[0].says, read.entries[0].shown), (Says::Choice(Choice::Second), Shown::SecondFirst));
    }

    #[test]
    fn what_is_wrong_says_where() {
        let read = rows("path,rater,rating,x\na.png,ann,9,\na.png,,3,\nb.png,ann,3,4\n,ann,3,\nc.png,ann,good,\n");
        for (fault, words) in
            read.faults.iter().zip(["not on the scale", "no rater", "a patch needs", "no picture", "no number"])
        {
            assert!(fault.contains(words), "{fault}");
        }
        assert_eq!((read.entries.len(), read.faults.len()), (0, 5));
    }
}
