//! Every table and figure of the paper: where this page has it, or what is missing for it.

use std::collections::BTreeSet;

use crate::report::gallery::Gallery;
use crate::report::paper::published::key;
use crate::report::view::Report;
use crate::store::findings::Making;

/// A table or figure of the paper.
pub(in crate::report) struct Item {
    pub(in crate::report) name: &'static str,
    pub(in crate::report) what: &'static str,
    /// The section that has it, or what is missing.
    pub(in crate::report) here: Result<&'static str, String>,
}

/// Whether some model's pictures stand beside those of a model that was made of it: one that the sweep trains, or, of models
/// from elsewhere, one of its name with `-WLF` or `-finetune` at the end.
fn has_before_and_after(report: &Report) -> bool {
    let models: BTreeSet<&str> = report.entrants.iter().filter_map(|it| it.model.as_deref()).collect();
    let named = report.entrants.iter().filter(|it| it.model.is_some()).map(|it| it.name.as_str());
    let keys: BTreeSet<String> = models.iter().copied().chain(named).map(key).collect();
    let is_trained = report.trainings.iter().any(|it| models.contains(&*it.name) && models.contains(&*it.base));
    let is_of =
        |it: &String| ["-wlf", "-finetune"].iter().any(|end| it.strip_suffix(end).is_some_and(|it| keys.contains(it)));
    is_trained || keys.iter().any(is_of)
}

/// All of them, tables first.
pub(super) fn checklist(report: &Report, gallery: &Gallery) -> Vec<Item> {
    let has = |number: u8| report.paper.iter().any(|it| it.number == number);
    let n_models = report.entrants.iter().filter(|it| it.model.is_some()).count();
    let in_paper = |number: u8, missing: &str| if has(number) { Ok("paper") } else { Err(missing.to_owned()) };
    let of_size = |number: u8, side: u16, metrics: &str| {
        let missing = format!("a model's pictures of about {side}×{side} pixels with scores by {metrics}");
        if has(number) { Ok("paper") } else { Err(missing) }
    };
    let item = |name, what, here| Item { name, what, here };
    let shown = |is_there: bool, section: &'static str, missing: &str| {
        if is_there { Ok(section) } else { Err(missing.to_owned()) }
    };
    let has_reconstructions = report.sources.iter().any(|it| matches!(it.making, Some(Making::Reconstructed { .. })));
    let has_choices = report.opinions.as_ref().is_some_and(|it| !it.preferences.is_empty());
    let has_words = gallery.worded.is_some();
    vec![
        item(
            "Table 1",
            "Correlation of metrics with people's ratings",
            in_paper(
                1,
                "people's ratings of images or patches: `jobctl labels import`; of patches, a [[patches]] block too",
            ),
        ),
        item(
            "Table 2",
            "Reconstruction by autoencoders",
            in_paper(2, "a [[reconstruct]] block with scores by psnr, ssim, nmse"),
        ),
        item("Table 3", "FID, CLIPScore and Aesthetics at 2048", of_size(3, 2048, "fid, clip_score or aesthetics")),
        item("Table 4", "Fine details at 2048", of_size(4, 2048, "glcm_score or compression_ratio")),
        item(
            "Table 5",
            "Memory and time of a step",
            in_paper(
                5,
                "a [[generate]] block of about 4096×4096 pixels whose pictures a worker of this version has made; what was \
                 made before has no measurements, and `jobctl bench generate` stores none",
            ),
        ),
        item(
            "Table 6",
            "Two sets of captions of the same images",
            in_paper(
                6,
                "two [[generate]] blocks of equal settings whose prompts differ, or two [[images]] blocks of one `model` whose \
                 `captions` do, with scores by clip_score or aesthetics",
            ),
        ),
        item("Table 7", "CLIPScore and Aesthetics at 4096", of_size(7, 4096, "clip_score or aesthetics")),
        item("Table 8", "Fine details at 4096", of_size(8, 4096, "glcm_score or compression_ratio")),
        item(
            "Table 9",
            "Sizes of data sets",
            in_paper(9, "an [[images]] block whose pictures are taken whole and are of no model"),
        ),
        item(
            "Table 10",
            "Steps and throughput of training",
            in_paper(10, "a [[finetune]] block whose training has begun"),
        ),
        item("Table 11", "The questions that judges are asked", shown(has_choices, "preference", "a judge's choices")),
        item(
            "Figures 1, 5, 10",
            "Galleries of generated images",
            shown(
                gallery.sheet.is_some(),
                "sheets",
                "pictures of a model: a [[generate]] block, or an [[images]] block with `model`",
            ),
        ),
        item(
            "Figure 2",
            "GLCM Score against compression ratio",
            shown(
                report.relation.is_some(),
                "relation",
                "scores by glcm_score and compression_ratio of at least three images",
            ),
        ),
        item(
            "Figure 2, patches",
            "Patches by their GLCM Score",
            shown(!gallery.patches.is_empty(), "patches", "a [[patches]] block with scores by glcm_score"),
        ),
        item(
            "Figure 3",
            "Pictures of the data set with their captions",
            shown(
                gallery.data.iter().any(|it| !it.pictures.is_empty()),
                "data",
                "an [[images]] block, of no model, with `captions`, or a [[caption]] block of its pictures",
            ),
        ),
        item(
            "Figure 4",
            "Originals and reconstructions",
            shown(
                has_reconstructions && !gallery.reconstructions.is_empty(),
                "reconstructions",
                "a [[reconstruct]] block whose originals are on this machine",
            ),
        ),
        item(
            "Figure 6",
            "Whom people and GPT-4o prefer",
            shown(has_choices, "preference", "choices between pictures: `jobctl labels import`, or a [[judge]] block"),
        ),
        item(
            "Figures 7, 8",
            "Details against other models",
            shown(
                !gallery.comparisons.is_empty() && n_models > 1,
                "compare",
                "pictures of one size and sample by two models",
            ),
        ),
        item(
            "Figure 9",
            "With and without WLF",
            shown(
                !gallery.comparisons.is_empty() && has_before_and_after(report),
                "compare",
                "pictures of one prompt and seed by a model before and after fine-tuning",
            ),
        ),
        item(
            "Figure 11",
            "Shapes and seeds",
            shown(!gallery.shapes.is_empty(), "shapes", "a [[generate]] block with several sizes"),
        ),
        item("Figure 12", "Written words", shown(has_words, "worded", "prompts that ask for written words")),
        item(
            "Figure 13",
            "Histograms of height and width",
            shown(
                report.sizes.is_some(),
                "sizes",
                "an [[images]] block whose pictures are taken whole and are of no model",
            ),
        ),
    ]
}
