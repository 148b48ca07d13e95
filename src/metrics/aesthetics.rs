//! Aesthetics: how much people would like a picture, by LAION's improved predictor.
//!
//! The predictor is an MLP over CLIP's embedding, scaled to length 1: five linear layers of 768 to 1024, 128, 64, 16 and 1
//! numbers, with dropout between them and no activation. Dropout does nothing outside of training, and a chain of affine
//! maps is one affine map: W₅(…(W₁x + b₁)…) + b₅ = w·x + b. So aesthetics.safetensors holds all that there is of it: `weight`
//! [1, 768] and `bias` [1], collapsed from sac+logos+ava1-l14-linearMSE.pth of LAION's improved-aesthetic-predictor
//! (Apache-2.0).

use std::sync::LazyLock;

use anyhow::ensure;
use safetensors::SafeTensors;

use super::{Better, Group, How, Metric, Needs, Network, Score, Scorer, Subject};
use crate::models::clip::vision::ClipVision;

pub(super) const GROUP: Group = Group {
    rows: &[Metric {
        name: "aesthetics",
        variant: "laion",
        version: 1,
        needs: Needs::Pixels,
        better: Better::Higher,
        unit: "",
        about: "How much people like a picture, from about 1 to 10: LAION's improved predictor over CLIP ViT-L/14, in f32.",
        pooled: false,
    }],
    score: How::Through(&Network {
        metric: "aesthetics",
        default: "openai/clip-vit-large-patch14",
        load: |package, weights| {
            let clip = ClipVision::open(package, weights)?;
            ensure!(
                clip.width() == WIDTH,
                "its embeddings have {} numbers, those of CLIP ViT-L/14 have {WIDTH}: the predictor was trained on these",
                clip.width()
            );
            Ok(Box::new(Aesthetics(clip)))
        },
    }),
    pool: |_| None,
};

/// Numbers of an embedding.
const WIDTH: usize = 768;

struct Aesthetics(ClipVision);

impl Scorer for Aesthetics {
    fn score(&self, wanted: &[&'static Metric], subject: &Subject) -> anyhow::Result<Vec<Score>> {
        let value = predict(&self.0.embed(subject.rgb)?);
        ensure!(value.is_finite(), "the network gives no finite embedding of this picture: are its weights whole?");
        Ok(wanted.iter().map(|metric| Score { metric, value: Ok(value), note: None }).collect())
    }
}

/// w and b.
static HEAD: LazyLock<(Vec<f64>, f64)> = LazyLock::new(|| {
    let file = SafeTensors::deserialize(include_bytes!("aesthetics.safetensors")).expect("the file is whole");
    let numbers = |name: &str| -> Vec<f64> {
        let bytes = file.tensor(name).expect("the file has it").data();
        bytes.as_chunks::<4>().0.iter().map(|it| f64::from(f32::from_le_bytes(*it))).collect()
    };
    (numbers("weight"), numbers("bias")[0])
});

/// The predictor's value for an embedding of any length above 0. Without that scaling values would be 20 to 30.
fn predict(embedding: &[f32]) -> f64 {
    let (weight, bias) = &*HEAD;
    let length = embedding.iter().map(|it| f64::from(*it).powi(2)).sum::<f64>().sqrt();
    embedding.iter().zip(weight).map(|(x, w)| f64::from(*x) * w).sum::<f64>() / length + bias
}

#[cfg(test)]
mod tests {
    use super::{HEAD, WIDTH, predict};

    #[test]
    fn unit_vectors_have_the_values_of_the_whole_mlp() {
        assert_eq!(HEAD.0.len(), WIDTH);
        let mut first = [0.0; WIDTH];
        first[0] = 3.0;
        // The layers were multiplied in f64, then rounded to f32.
        for (embedding, value) in [([0.5; WIDTH], 4.883_284_854_377_319), (first, 4.545_052_400_553_648)] {
            assert!((predict(&embedding) - value).abs() < 1e-6, "{}", predict(&embedding));
        }
    }

    #[test]
    fn embeddings_of_real_pictures_have_the_values_that_numpy_gives() {
        // The collapsed map in f64 of five embeddings of CLIP ViT-L/14 [5, 768], f32, of LAION-AI/aesthetic-predictor (MIT).
        let bytes = include_bytes!("../../tests/golden/clip/ratings.f32");
        let numbers: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|it| f32::from_le_bytes(*it)).collect();
        let wanted = [
            1.655_480_265_504_936,
            2.359_274_618_095_791,
            3.069_823_367_611_314,
            3.672_451_140_990_495,
            4.238_009_474_967_379,
        ];
        assert_eq!(numbers.len(), wanted.len() * WIDTH);
        for (embedding, value) in numbers.chunks(WIDTH).zip(wanted) {
            assert!((predict(embedding) - value).abs() < 1e-9, "{}", predict(embedding));
        }
    }
}
