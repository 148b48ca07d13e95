//! What the numbers say, in plain sentences.

use super::format::{self, Digits};
use super::view::{Conclusion, Entrant, Ladder, LadderResult, Lead, Report, Tone, Verdict};

/// The sentences at the head of a report: who leads, which metrics order which ladders rightly, how Figure 2 comes out.
pub(super) fn conclusions(report: &Report) -> Vec<Conclusion> {
    let mut sentences = board_sentences(report);
    sentences.extend(ladder_sentences(report));
    sentences.extend(relation_sentence(report));
    if sentences.is_empty() {
        let n = report.images.iter().filter(|it| it.scores.iter().any(Option::is_some)).count();
        let text = format!(
            "{} of {} have scores by {}; there are no ladders of known damage to judge the metrics by.",
            format::thousands(n as u64),
            format::count(report.images.len(), "image"),
            format::count(report.metrics.len(), "metric"),
        );
        sentences.push(Conclusion { tone: Tone::Plain, text });
    }
    sentences
}

/// Who is best overall, then metric by metric; metrics with the same answer share a sentence.
fn board_sentences(report: &Report) -> Vec<Conclusion> {
    let ranked: Vec<&Entrant> = report.entrants.iter().filter(|it| it.model.is_some()).collect();
    if report.leads.is_empty() {
        return Vec::new();
    }
    let mut sentences = Vec::new();
    let in_first = |it: &Entrant| report.leads.iter().filter(|lead| it.standings[lead.metric].tier == Some(1)).count();
    let most = ranked.iter().map(|it| in_first(it)).max().unwrap_or(0);
    let best: Vec<&str> = ranked.iter().filter(|it| in_first(it) == most).map(|it| it.name.as_str()).collect();
    let n_metrics = format::count(report.leads.len(), "metric");
    let text = match best.as_slice() {
        [only] => format!(
            "{only} is best, or not told apart from the best, by {most} of {n_metrics}: more than any other of {}.",
            format::count(ranked.len(), "model")
        ),
        several => format!(
            "{} of {} are best, or not told apart from the best, by {most} of {n_metrics} each: {}.",
            several.len(),
            format::count(ranked.len(), "model"),
            format::few(several),
        ),
    };
    sentences.push(Conclusion { tone: if best.len() == 1 { Tone::Right } else { Tone::Unclear }, text });
    for lead in &report.leads {
        sentences.push(lead_sentence(lead, report));
    }
    sentences
}

fn lead_sentence(lead: &Lead, report: &Report) -> Conclusion {
    let column = &report.metrics[lead.metric];
    let (first, second) = (&report.entrants[lead.first], &report.entrants[lead.second]);
    let means = report.entrants.iter().filter_map(|it| it.standings[lead.metric].mean.ok());
    let digits = Digits::of(means);
    let mean = first.standings[lead.metric].mean.map(|it| digits.number(it)).unwrap_or_default();
    let margin = match (lead.difference, &lead.interval) {
        (Some(difference), Some(interval)) => format!(
            "the difference to {} is {} {} over {} that both have",
            second.name,
            digits.signed(difference),
            digits.interval(interval),
            format::count(lead.n, "sample"),
        ),
        _ => format!("{} is next, and has too few samples in common with it for an interval", second.name),
    };
    if lead.n_tied > 1 {
        let tied = report.entrants.iter().filter(|it| it.standings[lead.metric].tier == Some(1));
        let tied: Vec<&str> = tied.map(|it| it.name.as_str()).collect();
        let text = format!("{}: {} cannot be told apart; {margin}.", column.label, format::few(&tied));
        return Conclusion { tone: Tone::Unclear, text };
    }
    Conclusion { tone: Tone::Plain, text: format!("{}: {} leads with {mean}; {margin}.", column.label, first.name) }
}

fn ladder_sentences(report: &Report) -> Vec<Conclusion> {
    let (mut all_right, mut others) = (Vec::new(), Vec::new());
    for (metric, column) in report.metrics.iter().enumerate().filter(|(_, it)| it.main) {
        let with = |verdict| {
            report.ladders.iter().filter(|it| it.results[metric].verdict == verdict).collect::<Vec<&Ladder>>()
        };
        let right = with(Verdict::Right);
        if !report.ladders.is_empty() && right.len() == report.ladders.len() {
            all_right.push(column.label.as_str());
            continue;
        }
        let (wrong, unclear) = (with(Verdict::Wrong), with(Verdict::Unclear));
        if wrong.is_empty() && unclear.is_empty() {
            continue;
        }
        let mut parts = Vec::new();
        if !wrong.is_empty() {
            parts.push(format!("orders {} the wrong way round ({})", names(&wrong, report), evidence(&wrong, metric)));
        }
        if !unclear.is_empty() {
            parts.push(format!("is unclear on {}", names(&unclear, report)));
        }
        if !right.is_empty() {
            parts.push(format!("orders {} rightly", names(&right, report)));
        }
        let tone = if wrong.is_empty() { Tone::Unclear } else { Tone::Wrong };
        others.push(Conclusion { tone, text: format!("{} {}.", column.label, format::list(&parts)) });
    }
    // The wrong ones first: they are what a reader must know.
    others.sort_by_key(|it| it.tone != Tone::Wrong);
    if !all_right.is_empty() {
        let verb = if all_right.len() == 1 { "orders" } else { "order" };
        let ladders = match report.ladders.len() {
            1 => "the ladder of known damage".to_owned(),
            n => format!("all {n} ladders of known damage"),
        };
        let text = format!("{} {verb} {ladders} rightly.", format::list(&all_right));
        others.push(Conclusion { tone: Tone::Right, text });
    }
    others
}

/// The ladders' names: their kinds alone where those tell them apart.
fn names(ladders: &[&Ladder], report: &Report) -> String {
    let one_origin = report.ladders.iter().all(|it| it.of == report.ladders[0].of);
    let names: Vec<&str> =
        ladders.iter().map(|it| if one_origin { format::kind(&it.kind) } else { &*it.name }).collect();
    format::list(&names)
}

fn evidence(wrong: &[&Ladder], metric: usize) -> String {
    let of = |it: &LadderResult| {
        let agreement = it.agreement.map(|it| Digits::two().number(it)).unwrap_or_default();
        format!("agreement {agreement}, {} of {} reversed", it.n_reversed, format::count(it.n, "sample"))
    };
    wrong.iter().map(|it| of(&it.results[metric])).collect::<Vec<_>>().join("; ")
}

fn relation_sentence(report: &Report) -> Option<Conclusion> {
    let relation = report.relation.as_ref()?;
    let row = relation.rows.first()?;
    let r = row.pearson.value.ok()?;
    let interval = row.pearson.interval?;
    let digits = Digits::two();
    let meaning = if interval.holds(0.0) {
        "the interval holds 0, so that the data do not say how they go together"
    } else if r < 0.0 {
        "images with more texture compress less, as the paper has it"
    } else {
        "images with more texture compress better, against the paper"
    };
    let text = format!(
        "Over {} of {}, {} and {} have r = {} {}: {meaning}.",
        format::count(row.n, "image"),
        format::count(row.n_samples, "sample"),
        report.metrics[relation.y].label,
        format::lower_first(&report.metrics[relation.x].label),
        digits.number(r),
        digits.interval(&interval),
    );
    Some(Conclusion { tone: Tone::Plain, text })
}
