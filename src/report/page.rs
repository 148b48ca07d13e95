//! The page as a template sees it: tables, figures and sentences, all text still to be escaped.

mod asked;
mod board;
mod checklist;
mod comparison;
mod correlation;
mod figures;
mod images;
mod ladders;
mod making;
mod nights;
mod notes;
mod paper;
mod preference;
mod relation;
mod sizes;
mod sources;
mod training;

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use self::figures::Figure;
use super::format;
use super::gallery::Gallery;
use super::table::Table;
use super::view::{Report, Tone};
use crate::job::State;
use crate::job::task::asking::Aspect;
use crate::judge::prompts::{CAPTION, Question, question};
use crate::store::findings::Making;

const STYLE: &str = include_str!("../../templates/report.css");
const SCRIPT: &str = include_str!("../../templates/report.js");

/// What `report.html` shows.
#[derive(Template)]
#[template(path = "report.html")]
pub(super) struct Page<'a> {
    report: &'a Report,
    gallery: &'a Gallery,
    style: &'static str,
    script: &'static str,
    style_hash: String,
    script_hash: String,
    facts: Vec<(String, String)>,
    jobs: Vec<(&'static str, String)>,
    conclusions: Vec<(&'static str, &'static str, &'a str)>,
    sources: Table,
    other_sources: Option<Table>,
    source_notes: Vec<String>,
    generated: Option<Table>,
    /// What making the generated pictures took.
    efforts: Option<Table>,
    reconstructed: Option<Table>,
    training: Option<training::Training>,
    verdicts: Option<Table>,
    other_verdicts: Option<Table>,
    ladders: Vec<ladders::Block>,
    other_ladders: Vec<ladders::Block>,
    strips: Vec<Figure>,
    other_strips: Vec<Figure>,
    strip_note: String,
    relation: Option<relation::Part>,
    failures: Option<Table>,
    failure_note: String,
    gaps: Option<Table>,
    gap_note: String,
    remarks: Option<Table>,
    remark_note: String,
    metrics: Table,
    board: Option<board::Board>,
    nights: Option<nights::Part>,
    paper: Vec<paper::Part>,
    comparisons: Option<Table>,
    /// Of models that have no sample in common.
    unpaired: Option<Table>,
    correlations: Vec<correlation::Part>,
    preference: Option<preference::Part>,
    /// What judges are asked: the paper's Table 11.
    question: Question,
    caption_request: &'static str,
    sizes: Vec<Figure>,
    /// Class and name of each colour of the histograms.
    size_legend: Vec<(String, &'a str)>,
    images: images::Images,
    checklist: Vec<checklist::Item>,
    /// Anchors and titles, in the order of the page.
    sections: Vec<(&'static str, &'static str)>,
    enqueued: String,
    read: String,
    busy: String,
}

impl<'a> Page<'a> {
    pub(super) fn of(report: &'a Report, gallery: &'a Gallery) -> Self {
        let (failures, failure_note) = notes::failures(report);
        let (gaps, gap_note) = notes::gaps(report);
        let (remarks, remark_note) = notes::remarks(report);
        let (ladders, other_ladders) = ladders::blocks(report);
        let (strips, other_strips) = figures::strips(report);
        Self {
            report,
            gallery,
            style: STYLE,
            script: SCRIPT,
            // The policy lets this style and this script work and no other, whatever a name may hold.
            style_hash: STANDARD.encode(Sha256::digest(STYLE)),
            script_hash: STANDARD.encode(Sha256::digest(SCRIPT)),
            facts: facts(report),
            jobs: jobs(report),
            conclusions: report.conclusions.iter().map(|it| tone(it.tone, &it.text)).collect(),
            sources: sources::table(report, true),
            other_sources: report.metrics.iter().any(|it| !it.main).then(|| sources::table(report, false)),
            source_notes: sources::notes(report),
            generated: making::generated(report),
            efforts: making::efforts(report),
            reconstructed: making::reconstructed(report),
            training: training::section(report),
            verdicts: ladders::verdicts(report, true),
            other_verdicts: ladders::verdicts(report, false),
            ladders,
            other_ladders,
            strips,
            other_strips,
            strip_note: figures::strip_note(report),
            relation: relation::part(report),
            failures,
            failure_note,
            gaps,
            gap_note,
            remarks,
            remark_note,
            metrics: notes::metrics(report),
            board: board::board(report),
            nights: nights::part(report),
            paper: paper::parts(report),
            comparisons: comparison::table(report),
            unpaired: comparison::unpaired(report),
            correlations: correlation::parts(report),
            preference: preference::part(report),
            question: question(&Aspect::ALL, Some("<prompt>")),
            caption_request: CAPTION,
            sizes: sizes::histograms(report),
            size_legend: sizes::legend(report),
            images: images::images(report),
            checklist: checklist::checklist(report, gallery),
            sections: sections(report, gallery),
            enqueued: format::moment(&report.run.enqueued_at),
            read: format::moment(&report.run.read_at),
            busy: format::duration(report.run.busy_seconds),
        }
    }

    /// The same page with pictures.
    pub(super) fn with(self, gallery: &'a Gallery) -> Self {
        let checklist = checklist::checklist(self.report, gallery);
        let sections = sections(self.report, gallery);
        Self { gallery, checklist, sections, ..self }
    }

    /// Samples on which the gallery has nothing to show are not headed.
    fn has_gallery(&self) -> bool {
        has_gallery(self.gallery)
    }

    fn level(&self) -> String {
        format!("{} %", (self.report.bootstrap.level * 100.0).round())
    }

    fn n_resamples(&self) -> String {
        format::thousands(self.report.bootstrap.n_resamples as u64)
    }
}

fn has_gallery(gallery: &Gallery) -> bool {
    !gallery.samples.is_empty() || !gallery.notes.is_empty()
}

fn has_correlations(report: &Report) -> bool {
    report.opinions.as_ref().is_some_and(|it| it.correlations.iter().any(|it| !it.rows.is_empty()))
}

/// The sections that this page has.
fn sections(report: &Report, gallery: &Gallery) -> Vec<(&'static str, &'static str)> {
    let makes = |it: fn(&Making) -> bool| report.sources.iter().any(|source| source.making.as_ref().is_some_and(it));
    let has_sheets = gallery.sheet.is_some() || gallery.worded.is_some() || !gallery.shapes.is_empty();
    [
        ("nights", "Night by night", report.nights.is_some()),
        ("board", "Leaderboard", !report.entrants.is_empty()),
        ("paper", "Tables of the paper", !report.paper.is_empty()),
        ("compare", "Side by side", !gallery.comparisons.is_empty()),
        ("sheets", "Contact sheets", has_sheets),
        ("comparisons", "Model against model", !(report.comparisons.is_empty() && report.unpaired.is_empty())),
        ("correlation", "Metrics and opinions", has_correlations(report)),
        ("patches", "Patches", !gallery.patches.is_empty()),
        ("preference", "Preference", report.opinions.is_some() || !report.asked.is_empty()),
        ("sources", "Sources", true),
        ("ladders", "Damage ladders", !report.ladders.is_empty() && report.metrics.iter().any(|it| it.main)),
        ("distributions", "Distributions", true),
        ("relation", "Texture and compression", report.relation.is_some()),
        ("data", "Data sets", !gallery.data.is_empty()),
        ("sizes", "Sizes", report.sizes.is_some()),
        ("training", "Fine-tuning", !report.trainings.is_empty()),
        ("generated", "Generated images", makes(|it| matches!(it, Making::Generated { .. }))),
        ("reconstructions", "Reconstructions", makes(|it| matches!(it, Making::Reconstructed { .. }))),
        ("gallery", "Gallery", has_gallery(gallery)),
        ("images", "Every image", !report.images.is_empty()),
        ("missing", "What is missing", true),
        ("failures", "What failed", true),
        ("methods", "Methods", true),
        ("provenance", "Provenance", true),
    ]
    .into_iter()
    .filter(|it| it.2)
    .map(|(anchor, title, _)| (anchor, title))
    .collect()
}

fn facts(report: &Report) -> Vec<(String, String)> {
    let samples = report.samples.len();
    [
        (report.sources.len(), "source"),
        (samples, "sample"),
        (report.images.len(), "image"),
        (report.metrics.len(), "metric"),
        (report.ladders.len(), "ladder"),
    ]
    .into_iter()
    .filter(|it| it.0 > 0)
    .map(|(n, what)| (format::thousands(n as u64), format!("{what}{}", if n == 1 { "" } else { "s" })))
    .collect()
}

/// Jobs by state, with a class that says whether a state is as it should be.
fn jobs(report: &Report) -> Vec<(&'static str, String)> {
    let mut jobs: Vec<(State, u64)> = report.run.jobs.iter().copied().filter(|it| it.1 > 0).collect();
    jobs.sort();
    jobs.into_iter()
        .map(|(state, n)| {
            let class = match state {
                State::Done => "right",
                State::Failed => "wrong",
                _ => "unclear",
            };
            (class, format!("{} {state}", format::thousands(n)))
        })
        .collect()
}

fn tone(tone: Tone, text: &str) -> (&'static str, &'static str, &str) {
    match tone {
        Tone::Right => ("right", "✓", text),
        Tone::Wrong => ("wrong", "✗", text),
        Tone::Unclear => ("unclear", "?", text),
        Tone::Plain => ("plain", "·", text),
    }
}
