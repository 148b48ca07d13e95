//! Arguments about pictures that several verbs take.

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::job::task::making::{Partition, Precision};

/// `WxH`, or one number for a square.
pub(super) fn size(text: &str) -> Result<(u32, u32), String> {
    let side = |text: &str| text.trim().parse().ok().filter(|it| *it > 0);
    let sides = match text.split_once(['x', 'X', '×']) {
        Some((width, height)) => side(width).zip(side(height)),
        None => side(text).map(|it| (it, it)),
    };
    sides.ok_or_else(|| "give width and height in pixels, such as 2048x2048".to_owned())
}

/// What is computed in, by its word.
pub(super) fn precision() -> impl TypedValueParser<Value = Precision> {
    choice(Precision::ALL.map(|it| (it.word(), it)))
}

/// How a strided autoencoder decodes, by its word.
pub(super) fn partition() -> impl TypedValueParser<Value = Partition> {
    choice(Partition::ALL.map(|it| (it.word(), it)))
}

fn choice<T: Copy + Send + Sync + 'static, const N: usize>(
    choices: [(&'static str, T); N],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(choices.map(|it| it.0)).map(move |word| {
        let found = choices.iter().find(|it| it.0 == word);
        found.expect("clap lets none but these words through").1
    })
}
