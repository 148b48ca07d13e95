//! Models against each other, and the paper's tables.

use jobctl::job::task::Picture;
use jobctl::job::{JobId, State};
use jobctl::metrics::Better;
use jobctl::report::view::{PaperTable, Report};
use jobctl::report::{self, Options};
use jobctl::store::findings::{Caption, Failure, Findings, Image, Making, Score, Source};

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
    let of_seeds: Vec<f64> =
        tuned.sources.iter().map(|it| report.set_scores[0].cells[*it].as_ref().unwrap().value.unwrap()).collect();
    let set = tuned.set[0].as_ref().unwrap();
    assert!((set.value.unwrap() - (of_seeds[0] + of_seeds[1]) / 2.0).abs() < 1e-12 && of_seeds[0] != of_seeds[1]);
    assert!(set.interval.unwrap().holds(set.value.unwrap()), "samples are drawn with both seeds");
}

#[test]
fn aesthetics_stand_in_the_papers_tables() {
    let id = jobctl::metrics::parse("aesthetics").unwrap()[0].id();
    let report = analysed("aesthetics", |findings| {
        for image in 0..findings.images.len() {
            let value = Some(5.0 + image as f64 / 1000.0);
            findings.scores.push(Score { image, metric: id.clone(), value, why: None, note: None });
        }
    });
    let third = table(&report, 3);
    let column = third.columns.iter().position(|it| it.metric == "aesthetics").unwrap();
    assert_eq!(
        (third.columns[column].label.as_str(), third.columns[column].better),
        ("Aesthetics", Some(Better::Higher))
    );
    let row = third.rows.iter().find(|it| it.method == "SD3-F16-WLF").unwrap();
    assert_eq!(row.published[column], Some(5.96));
    let tuned = report.entrants.iter().find(|it| it.name == "SD3-F16-WLF@2048").unwrap();
    let value = row.values[column].unwrap();
    assert_eq!(value.value, tuned.standings[metric(&report, "aesthetics")].mean.unwrap());
    assert!(value.interval.is_some() && !value.of_set);
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
    let ratio = row("SD3-F16-WLF").values[1].unwrap();
    assert!(ratio.of_set && ratio.interval.is_some_and(|it| it.holds(ratio.value)));

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
fn captions_of_pictures_that_were_made_elsewhere_are_their_prompts() {
    let clip =
        jobctl::job::task::MetricId { metric: "clip_score".to_owned(), variant: "openai".to_owned(), version: 1 };
    let change = |findings: &mut Findings| {
        for it in findings.scores.iter_mut().filter(|it| it.metric.metric == "glcm_score") {
            it.metric = clip.clone();
        }
        findings.sources[6].model = findings.sources[5].model.clone();
        let of_both = findings.images.iter().enumerate().filter(|it| [5, 6].contains(&it.1.source));
        let captions = of_both.map(|(image, it)| Caption {
            image,
            by: None,
            text: format!("{} as source {} was told", it.sample, it.source),
        });
        findings.captions.extend(captions.collect::<Vec<_>>());
    };
    let report = analysed("elsewhere", change);
    let mut ours: Vec<&str> =
        table(&report, 6).rows.iter().filter_map(|it| Some(it.ours.as_ref()?.0.as_str())).collect();
    ours.sort_unstable();
    assert_eq!(ours, ["PixArt", "Sana"]);
    let image = report.images.iter().find(|it| it.source == 5 && it.sample == "shop").unwrap();
    assert_eq!((image.prompt.as_deref(), image.captions.len()), (Some("shop as source 5 was told"), 0));
    let photograph = report.images.iter().find(|it| it.source == 0 && it.sample == "shop").unwrap();
    assert_eq!(
        (photograph.prompt.as_deref(), photograph.captions.len()),
        (None, 1),
        "what a photograph shows is no prompt"
    );
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
    for section in ["board", "compare", "sheets", "worded", "shapes", "paper", "data", "sizes", "images", "missing"] {
        has(&format!("id=\"{section}\""));
    }
    // Ours of elsewhere stand among the generated ones.
    has("data-name=\"Sana\"");
    let row = |page: &str, of: &str| {
        page.split(&format!("{of}</th>")).nth(1).unwrap().split("</tr>").next().unwrap().to_owned()
    };
    assert!(row(&page, "Figure 9").contains("href=\"#compare\""), "SD3-F16 with and without WLF");
    let mut others = findings.clone();
    others.sources.iter_mut().filter(|it| it.name.contains("-WLF")).for_each(|it| {
        it.name = it.name.replace("-WLF", "-else");
        it.model = Some("else".to_owned());
    });
    others
        .sources
        .iter_mut()
        .filter(|it| it.name.starts_with("shapes"))
        .for_each(|it| it.model = Some("else".to_owned()));
    let without = std::fs::read_to_string(report::write(&others, &folder, &Options::default()).unwrap().html).unwrap();
    assert!(row(&without, "Figure 9").contains("Missing:") && row(&without, "Figures 7, 8").contains("#compare"));
    has("<h3>Prompts that ask for written words</h3>");
    has("FRESH BREAD");
    has("Missing:</span> a model&#39;s pictures of about 4096×4096 pixels with scores by clip_score or aesthetics");
    assert!(!page.contains("<script>alert(7)"), "a prompt stays text");
    let originals = page.split("id=\"reconstructions\"").nth(1).unwrap();
    assert!(originals.contains("data-name=\"Original\"") && originals.contains("data-name=\"SD3-VAE-F16\""));
    let is_generated = |it: &&jobctl::store::findings::Source| matches!(it.making, Some(Making::Generated { .. }));
    assert_eq!(findings.sources.iter().filter(is_generated).count(), 8);
}

/// Of 4096×4096 pixels where the fixture has the sizes of the paper's smaller class.
fn large(findings: &mut Findings) {
    for it in &mut findings.sources {
        if let Some(Making::Generated { width, height, .. }) = &mut it.making
            && *width == SIDE
        {
            (*width, *height) = (4096, 4096);
        }
    }
}

#[test]
fn steps_and_memory_make_table_5_and_what_ran_out_of_memory_is_a_row_of_it() {
    let lost = |source: usize, sample: &str, out_of_memory: bool| Failure {
        job: JobId(7),
        kind: "denoise".to_owned(),
        state: State::Failed,
        source: Some(source),
        sample: Some(sample.to_owned()),
        error: "out of memory".to_owned(),
        n_attempts: 2,
        out_of_memory,
    };
    let change = |findings: &mut Findings| {
        large(findings);
        // The plain model has made nothing; of the tuned one, a picture is lost, and one seed was made elsewhere.
        let is_plain = |findings: &Findings, image: usize| [1, 2].contains(&findings.images[image].source);
        let mut efforts = std::mem::take(&mut findings.efforts);
        efforts.retain(|it| !is_plain(findings, it.image));
        for it in efforts.iter_mut().filter(|it| findings.images[it.image].source == 4) {
            (it.device, it.decode_gib) = (Some("NVIDIA A100".to_owned()), None);
        }
        findings.efforts = efforts;
        findings.failures = vec![
            lost(1, "bridge", true),
            lost(1, "bridge", true),
            lost(2, "lady", true),
            lost(3, "shop", true),
            lost(3, "valley", false),
        ];
    };
    let report = analysed("efforts", change);
    let fifth = table(&report, 5);
    let rows =
        |name: &str| fifth.rows.iter().filter(|it| it.ours.as_ref().is_some_and(|it| it.0 == name)).collect::<Vec<_>>();
    let plain = rows("SD3-F16@2048");
    assert_eq!((plain.len(), plain[0].ours.as_ref().unwrap().1.as_str()), (1, "2 pictures lost: out of memory"));
    assert!(plain[0].values.iter().all(Option::is_none));
    let tuned = rows("SD3-F16-WLF@2048");
    assert_eq!(tuned.len(), 2, "a row for each device");
    assert!(tuned.iter().all(|it| it.method == "SD3-F16-WLF" && it.published == [Some(31.3), Some(1.16)]));
    let values = |row: usize| [0, 1].map(|it: usize| tuned[row].values[it].unwrap().value);
    let gib = f64::from(1 << 30) / 1e9;
    // The median of 4.5, 4.51 … 4.55; without decoding, the memory of denoising.
    assert!((values(0)[0] - 6.5 * gib).abs() < 1e-9 && (values(0)[1] - 4.525).abs() < 1e-9, "{:?}", values(0));
    assert!((values(1)[0] - 7.75 * gib).abs() < 1e-9 && (values(1)[1] - 3.525).abs() < 1e-9, "{:?}", values(1));
    assert_eq!(tuned[0].ours.as_ref().unwrap().1, "NVIDIA A100, 4096×4096, 6 pictures, 1 picture lost: out of memory");
    assert!(fifth.note.contains("The paper measured on one A100"));
    assert!(analysed("small-efforts", |_| {}).paper.iter().all(|it| it.number != 5), "none of them is of 4096 pixels");

    let folder = folder("efforts-page");
    let mut findings = numbers(&folder);
    change(&mut findings);
    let page = std::fs::read_to_string(report::write(&findings, &folder, &Options::default()).unwrap().html).unwrap();
    let rows = cells(&page, "Table 5: ");
    let ours: Vec<&Vec<String>> = rows.iter().filter(|it| it[0] == "SD3-F16-WLF" && it[1].contains("H100")).collect();
    assert_eq!(ours[0][2..], ["8.321", "31.30", "3.525", "1.16"]);
    let took = cells(&page, "What making the pictures took");
    let shapes = took.iter().find(|it| it[0] == "shapes size=192x256").unwrap();
    assert_eq!(shapes[1..], ["NVIDIA H100 80GB HBM3", "192×256", "12", "8.03", "6.500", "7.750", "0"]);
}

#[test]
fn photographs_stand_with_what_is_said_that_they_show() {
    let folder = folder("data");
    let mut findings = findings(&folder);
    let page = |findings: &Findings| {
        std::fs::read_to_string(report::write(findings, &folder, &Options::default()).unwrap().html).unwrap()
    };
    let section = |page: &str| {
        let section = page.split("<section id=\"data\"").nth(1)?;
        Some(section.split("</section>").next().unwrap().to_owned())
    };
    let whole = page(&findings);
    let shown = section(&whole).unwrap();
    assert!(
        shown.contains("<h3>photographs <span class=\"hint\">6 pictures, all with captions</span></h3>"),
        "{shown}"
    );
    assert_eq!(shown.matches("<figure>").count(), 6, "what models made is no data set");
    assert!(
        shown.contains("<q>Boats, ropes &#38; &#60;b&#62;nets&#60;/b&#62; at dawn</q><small>gpt-4o-2024-08-06</small>")
    );
    // Nobody captioned the valley: models were given a prompt for it.
    let valley = shown.split("<b>valley</b>").nth(1).unwrap();
    assert!(
        valley.contains("A valley seen from a ridge")
            && valley.contains("<small>the prompt that models were given</small>")
    );
    let row = |page: &str| page.split("Figure 3</th>").nth(1).unwrap().split("</tr>").next().unwrap().to_owned();
    assert!(row(&whole).contains("href=\"#data\""));

    // Without models, and with fewer captions.
    let is_photograph = |findings: &Findings, image: usize| findings.images[image].source == 0;
    findings.captions.retain(|it| it.image < 2);
    findings.scores = findings.scores.iter().filter(|it| is_photograph(&findings, it.image)).cloned().collect();
    findings.set_scores.clear();
    findings.efforts.clear();
    findings.images.retain(|it| it.source == 0);
    findings.sources.truncate(1);
    let alone = section(&page(&findings)).unwrap();
    assert!(alone.contains("6 pictures, 2 with captions") && alone.matches("<figure>").count() == 2);
    assert!(!alone.contains("<script>alert(7)") && alone.contains("&#60;script&#62;alert(7)"));
    // A second block of the same files is not shown twice.
    findings.sources.push(Source { name: "again".to_owned(), ..findings.sources[0].clone() });
    for idx in 0..6 {
        findings.images.push(Image { source: 1, ..findings.images[idx].clone() });
        findings.captions.push(Caption { image: 6 + idx, by: None, text: "words".to_owned() });
    }
    assert!(!section(&page(&findings)).unwrap().contains("<h3>again"));
    findings.captions.clear();
    let none = page(&findings);
    assert!(section(&none).is_none());
    assert!(row(&none).contains("Missing:</span> an [[images]] block"), "{}", row(&none));
}

/// The texts of a table's cells, without what stands small beneath them but in the second column.
pub fn cells(page: &str, caption: &str) -> Vec<Vec<String>> {
    let table = page.split(&format!("<caption class=\"unseen\">{caption}")).nth(1);
    let table = table.unwrap_or_else(|| panic!("{caption} is on the page")).split("</table>").next().unwrap();
    let body = table.split("<tbody>").nth(1).unwrap();
    let rows = body.split("<tr>").skip(1);
    rows.map(|row| {
        let cells = row.split("</th>").flat_map(|it| it.split("</td>"));
        let cells: Vec<&str> = cells.filter(|it| it.contains("<t")).collect();
        let text = |(idx, cell): (usize, &&str)| {
            let text = cell.split_once("data-v=").unwrap().1.split_once('>').unwrap().1;
            let text =
                if idx == 1 { text.replace("<small>", " ") } else { text.split("<small>").next().unwrap().to_owned() };
            text.replace("</small>", "")
        };
        cells.iter().enumerate().map(text).collect()
    })
    .collect()
}
