//! What asking costs: an estimate before, from the sizes of pictures and texts, and the bill afterwards.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// US dollars for 10^6 tokens.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Prices {
    /// Of tokens that are read.
    pub input: f64,
    /// Of tokens that are written.
    pub output: f64,
}

impl Prices {
    /// What so many tokens cost, in US dollars.
    pub fn of(&self, tokens: Tokens) -> f64 {
        (f64::from(tokens.input) * self.input + f64::from(tokens.output) * self.output) / 1e6
    }
}

/// Counts of tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tokens {
    /// Those that are read.
    pub input: u32,
    /// Those that are written.
    pub output: u32,
}

/// A row of the table of prices.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    input: f64,
    output: f64,
    base: u32,
    tile: u32,
}

#[derive(Deserialize)]
struct Table {
    model: Vec<Row>,
}

fn table() -> &'static [Row] {
    static TABLE: OnceLock<Vec<Row>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let table: Table = toml::from_str(include_str!("prices.toml")).expect("the table of prices is right");
        table.model
    })
}

/// The row of a model: that of its own name, or of the longest one that its name is a version of.
fn row(model: &str) -> Option<&'static Row> {
    let fits = |it: &&Row| model.strip_prefix(it.name.as_str()).is_some_and(is_version);
    table().iter().filter(fits).max_by_key(|it| it.name.len())
}

/// Whether the rest of a name is nothing, or a date: `-mini` is another model.
fn is_version(rest: &str) -> bool {
    rest.is_empty() || rest.strip_prefix('-').is_some_and(|it| it.starts_with("20") || it == "latest")
}

/// The listed prices of a model, if it is in the table.
pub fn listed(model: &str) -> Option<Prices> {
    row(model).map(|it| Prices { input: it.input, output: it.output })
}

/// The tokens that a picture counts as: a base, and so many for each tile of 512×512 that it takes; without the latter all
/// pictures count alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PictureTokens {
    /// Of every picture.
    pub base: u32,
    /// Of every tile.
    pub tile: u32,
}

impl PictureTokens {
    /// As the model in the table counts them; others, of which nobody knows, as GPT-4o.
    pub fn of_model(model: &str) -> Self {
        Self::listed(model).unwrap_or(Self { base: 85, tile: 170 })
    }

    /// As the model counts them, if it is in the table.
    pub fn listed(model: &str) -> Option<Self> {
        row(model).map(|it| Self { base: it.base, tile: it.tile })
    }

    /// Of a picture of so many pixels across and down.
    ///
    /// OpenAI's rule for high detail: scaled to fit in 2048×2048, then to 768 on its shorter side, never up.
    pub fn of(self, width: u32, height: u32) -> u32 {
        let (width, height) = (f64::from(width.max(1)), f64::from(height.max(1)));
        let fit = (2048.0 / width.max(height)).min(1.0);
        let fit = fit * (768.0 / (width.min(height) * fit)).min(1.0);
        // A hair less, so that a side that comes to 1536.0000001 takes no tile more.
        let tiles = |side: f64| (side * fit / 512.0 - 1e-9).ceil().max(1.0) as u32;
        self.base.saturating_add(self.tile.saturating_mul(tiles(width).saturating_mul(tiles(height))))
    }
}

/// The tokens that a text counts as, roughly: four bytes each, as English has them.
pub fn text_tokens(text: &str) -> u32 {
    u32::try_from(text.len().div_ceil(4)).unwrap_or(u32::MAX)
}

/// The tokens around each message.
pub const FRAME: u32 = 8;

/// What a judge is likely to write about one aspect: the sentence and a reason.
pub const TOKENS_OF_VERDICT: u32 = 50;
/// What a captioner is likely to write.
pub const TOKENS_OF_CAPTION: u32 = 50;

/// A size made to fit a longest side.
pub fn fitted(size: (u32, u32), side: u32) -> (u32, u32) {
    let longest = size.0.max(size.1);
    if longest <= side {
        return size;
    }
    let scaled = |it: u32| ((f64::from(it) * f64::from(side) / f64::from(longest)).round() as u32).max(1);
    (scaled(size.0), scaled(size.1))
}

#[cfg(test)]
mod tests {
    use super::{PictureTokens, Prices, Tokens, fitted, listed};

    #[test]
    fn pictures_count_as_their_tiles() {
        let of = |model: &str, width, height| PictureTokens::of_model(model).of(width, height);
        // The maker's own examples.
        assert_eq!(of("gpt-4o", 1024, 1024), 765);
        assert_eq!(of("gpt-4o", 2048, 4096), 1105);
        assert_eq!(of("gpt-4o", 4096, 4096), 765);
        assert_eq!(of("gpt-4o", 512, 512), 255);
        assert_eq!(of("gpt-4o-mini-2024-07-18", 512, 512), 2833 + 5667);
        assert_eq!(of("some-other-model", 64, 64), 255);
        assert_eq!(PictureTokens::listed("some-other-model"), None);
        let alike = PictureTokens { base: 576, tile: 0 };
        assert_eq!([alike.of(64, 64), alike.of(4096, 2048)], [576, 576]);
    }

    #[test]
    fn a_dated_version_has_the_price_of_its_name_unless_it_has_its_own() {
        assert_eq!(listed("gpt-4o-2024-08-06"), listed("gpt-4o"));
        assert_ne!(listed("gpt-4o-2024-05-13"), listed("gpt-4o"));
        assert_eq!(listed("gpt-4o-audio-preview"), None);
        assert_eq!(listed("llava"), None);
        let prices = Prices { input: 2.5, output: 10.0 };
        assert_eq!(prices.of(Tokens { input: 2_000_000, output: 100_000 }), 6.0);
    }

    #[test]
    fn sizes_fit_without_growing() {
        assert_eq!(fitted((4096, 3072), 2048), (2048, 1536));
        assert_eq!(fitted((100, 50), 2048), (100, 50));
    }
}
