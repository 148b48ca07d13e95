//! Models against each other, and the paper's tables.

use jobctl::job::task::Picture;
use jobctl::report::view::{PaperTable, Report};
use jobctl::report::{self, Options};
use jobctl::store::findings::{Findings, Making};

use super::models::{SIDE, findings, numbers};
use super::{folder, metric};

fn analysed(name: &str, change: impl Fn(&mut Findings)) -> Report {
    let mut findings = numbers(&folder(name));
    change(&mut findings);
    report::analyse(&findings)
}

fn table(report: &Report, number: u8) -> &PaperTable {
    report.paper.iter().find(|it| it.number == number).unwrap_or_else(|| panic!("table {number} is there"))
}

#[test]
fn seeds_of_one_model_are_one_entrant_and_photographs_are_not_ranked() {
    let report = analysed("entrants", |_| {});
    let entrant = |name: &str| report.entrants.iter().find(|it| it.name == name).unwrap();
    let tuned = entrant("SD3-F16-WLF@2048");
    assert_eq!((tuned.sources.len(), tuned.n_images, tuned.size), (2, 12, Some((SIDE, SIDE))));
    let glcm = metric(&report, "glcm_score");
    // Two images of a sample are one unit.
    assert_eq!(tuned.standings[glcm].n, 6);
    let photographs = entrant("photographs");
    assert_eq!((photographs.mean_rank, photographs.standings[glcm].tier), (None, None));
    assert!(photographs.standings[glcm].mean.is_ok(), "they are shown all the same");
    assert_eq!(report.entrants.last().unwrap().name, "photographs");
    assert!(report.entrants.iter().all(|it| it.name != "SD3-VAE-F16"), "a reconstruction is no entrant");
    // The set's score is the mean of those of its seeds.
    assert_eq!(tuned.set[0].as_ref().unwrap().value, Some(11.0 - 0.14));
}

#[test]
fn models_without_common_samples_are_compared_set_against_set() {
    let all = analysed("all-pairs", |_| {});
    assert!(all.unpaired.is_empty(), "what can be paired is");
    let change = |findings: &mut Findings| {
        let sana = findings.sources.iter().position(|it| it.name == "Sana").unwrap();
        for it in findings.images.iter_mut().filter(|it| it.source == sana) {
            it.sample = format!("other {}", it.sample);
        }
    };
    let report = analysed("no-pairs", change);
    let glcm = metric(&report, "glcm_score");
    let sana = report.entrants.iter().position(|it| it.name == "Sana").unwrap();
    let of_sana = |a: usize, b: usize| a == sana || b == sana;
    assert!(report.comparisons.iter().all(|it| !of_sana(it.first, it.second)) && !report.comparisons.is_empty());
    assert!(report.unpaired.iter().all(|it| of_sana(it.first, it.second)));
    let n_models = report.entrants.iter().filter(|it| it.model.is_some()).count();
    assert_eq!(report.unpaired.iter().filter(|it| it.metric == glcm).count(), n_models - 1);
    for it in report.unpaired.iter().filter(|it| it.metric == glcm) {
        let means = [it.first, it.second].map(|it| report.entrants[it].standings[glcm].mean.unwrap());
        assert!((it.means[0] - means[0]).abs() < 1e-12 && (it.means[1] - means[1]).abs() < 1e-12);
        assert!((it.difference - (means[0] - means[1])).abs() < 1e-12);
        let interval = it.interval.unwrap();
        assert!(interval.holds(it.difference) && interval.low < interval.high);
        assert!(it.p_holm.unwrap() >= it.p.unwrap());
    }
    // Sana is worse by more than the noise.
    let tuned = report.entrants.iter().position(|it| it.name == "SD3-F16-WLF@2048").unwrap();
    let far = report.unpaired.iter().find(|it| it.metric == glcm && it.first == tuned).unwrap();
    assert!(far.p.unwrap() < 0.05 && far.interval.unwrap().low > 0.0, "{far:?}");
    let folder = folder("no-pairs-page");
    let mut findings = numbers(&folder);
    change(&mut findings);
    let page = std::fs::read_to_string(report::write(&findings, &folder, &Options::default()).unwrap().html).unwrap();
    assert!(page.contains("<h3>Set against set</h3>"));
}

#[test]
fn tiers_part_what_differs_and_join_what_does_not() {
    let report = analysed("tiers", |_| {});
    let tier = |name: &str, metric: usize| {
        report.entrants.iter().find(|it| it.name == name).unwrap().standings[metric].tier.unwrap()
    };
    for name in ["glcm_score", "compression_ratio"] {
        let metric = metric(&report, name);
        assert_eq!(tier("SD3-F16-WLF@2048", metric), 1, "{name}");
        // A difference of 0.005 is within the noise of 0.03, one of 0.3 far beyond it.
        assert_eq!(tier("PixArt", metric), tier("SD3-F16@2048", metric), "{name}");
        assert!(tier("Sana", metric) > tier("SD3-F16@2048", metric), "{name}");
    }
    let lead = &report.leads[0];
    assert_eq!(report.entrants[lead.first].name, "SD3-F16-WLF@2048");
    let interval = lead.interval.unwrap();
    assert!(interval.holds(lead.difference.unwrap()) && lead.n == 6);
    let first = &report.conclusions[0];
    assert!(first.text.starts_with("SD3-F16-WLF@2048 is best"), "{}", first.text);
}

#[test]
fn a_difference_within_chance_is_said_as_such() {
    let report = analysed("tied", |findings| {
        findings.sources.truncate(3);
        findings.sources[2].model = Some("Sana".to_owned());
        findings.sources[2].name = "Sana".to_owned();
        findings.sources[2].making = None;
        findings.images.retain(|it| it.source < 3);
        let n = findings.images.len();
        findings.scores.retain(|it| it.image < n);
        findings.set_scores.clear();
    });
    let text = &report.conclusions.iter().find(|it| it.text.starts_with("GLCM score")).unwrap().text;
    assert!(text.contains("cannot be told apart"), "{text}");
}

#[test]
fn published_numbers_stand_beside_ours_and_are_never_mixed_with_them() {
    let report = analysed("beside", |_| {});
    let fourth = table(&report, 4);
    let row = |method: &str| fourth.rows.iter().find(|it| it.method == method).unwrap();
    assert_eq!(row("SD3-F16-WLF").published, [Some(0.79), Some(10.51)]);
    assert_eq!(row("SD3-F16-WLF").ours.as_ref().unwrap().0, "SD3-F16-WLF@2048");
    assert_eq!(row("PixArt-Σ").ours.as_ref().unwrap().0, "PixArt", "found by the model that it stands for");
    assert_eq!(row("Sana").origin.as_deref(), Some("LWD"));
    // A method that was published and not computed has no number of ours, nor the other way round.
    assert!(row("Flux-F16").ours.is_none() && row("Flux-F16").values.iter().all(Option::is_none));
    assert!(fourth.rows.iter().all(|it| it.method != "photographs"));
    let tuned = report.entrants.iter().find(|it| it.name == "SD3-F16-WLF@2048").unwrap();
    let value = row("SD3-F16-WLF").values[0].unwrap();
    assert_eq!(value.value, tuned.standings[metric(&report, "glcm_score")].mean.unwrap());
    assert!(value.interval.is_some() && !value.of_set);
    // The ratio is the pooled one, as the paper's.
    assert!(row("SD3-F16-WLF").values[1].unwrap().of_set);

    let numbers: Vec<u8> = report.paper.iter().map(|it| it.number).collect();
    assert_eq!(numbers, [2, 4, 9], "without FID there is no Table 3, without 4096 pixels no Table 8");
    let second = table(&report, 2);
    let ours = second.rows.iter().find(|it| it.method == "SD3-VAE-F16").unwrap();
    assert!(ours.values[0].is_none() && ours.values[1].is_some(), "rFID was not computed, NMSE was");
    let ninth = table(&report, 9);
    let photographs = ninth.rows.iter().find(|it| it.method == "photographs").unwrap();
    assert_eq!(photographs.values.iter().map(|it| it.unwrap().value).collect::<Vec<_>>(), [f64::from(SIDE); 4]);
}

#[test]
fn other_words_for_the_same_samples_make_table_6() {
    let report = analysed("captions", |findings| {
        // The same package and settings, told something else.
        let clip =
            jobctl::job::task::MetricId { metric: "clip_score".to_owned(), variant: "openai".to_owned(), version: 1 };
        for it in &mut findings.scores {
            if it.metric.metric == "glcm_score" {
                it.metric = clip.clone();
            }
        }
        findings.sources[5].making = findings.sources[1].making.clone();
        findings.sources[5].model = findings.sources[1].model.clone();
        findings.sources[5].name = "SD3-F16-LAION".to_owned();
        for it in findings.images.iter_mut().filter(|it| it.source == 5) {
            it.prompt = Some(format!("other words for {}", it.sample));
        }
    });
    let sixth = table(&report, 6);
    let ours: Vec<&str> = sixth.rows.iter().filter_map(|it| Some(it.ours.as_ref()?.0.as_str())).collect();
    assert!(ours.contains(&"SD3-F16-LAION") && ours.contains(&"SD3-F16@2048"), "{ours:?}");
    assert!(!ours.contains(&"SD3-F16-WLF@2048"), "another model is another question: {ours:?}");
}

#[test]
fn histograms_count_every_picture_that_is_taken_whole() {
    let report = analysed("sizes", |findings| {
        for (idx, it) in findings.images.iter_mut().enumerate().filter(|(_, it)| it.source == 0) {
            it.size = Some((500 + 100 * idx as u32, 511 + idx as u32));
        }
        let crop = vec![jobctl::job::task::Step::Crop { size: 64 }];
        findings.images[5].picture = Picture::of_file(findings.images[5].picture.content, crop);
    });
    let sizes = report.sizes.unwrap();
    assert_eq!(sizes.rows.len(), 1, "models' pictures are no data set");
    let row = &sizes.rows[0];
    assert_eq!((row.n, row.centre), (5, [513.0, 700.0, 513.0, 700.0]));
    assert_eq!((row.heights.as_slice(), row.widths.as_slice()), (&[1, 4][..], &[1, 4][..]));
}

#[test]
fn the_page_has_pairs_sheets_and_what_is_missing() {
    let folder = folder("models");
    let findings = findings(&folder);
    let written = report::write(&findings, &folder, &Options::default()).unwrap();
    let page = std::fs::read_to_string(&written.html).unwrap();
    assert!(page.len() < 10_000_000);
    let has = |text: &str| assert!(page.contains(text), "{text}");
    for section in ["board", "compare", "sheets", "worded", "shapes", "paper", "sizes", "images", "missing"] {
        has(&format!("id=\"{section}\""));
    }
    // Ours of elsewhere stand among the generated ones.
    has("data-name=\"Sana\"");
    has("<h3>Prompts that ask for written words</h3>");
    has("FRESH BREAD");
    has("Missing:</span> a model&#39;s pictures of about 4096×4096 pixels with scores by clip_score or aesthetics");
    assert!(!page.contains("<script>alert(7)"), "a prompt stays text");
    let originals = page.split("id=\"reconstructions\"").nth(1).unwrap();
    assert!(originals.contains("data-name=\"Original\"") && originals.contains("data-name=\"SD3-VAE-F16\""));
    let is_generated = |it: &&jobctl::store::findings::Source| matches!(it.making, Some(Making::Generated { .. }));
    assert_eq!(findings.sources.iter().filter(is_generated).count(), 8);
}
