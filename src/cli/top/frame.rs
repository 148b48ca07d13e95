//! One look at the queue as lines of text: pure, so that a pipe and a terminal of any size get the same.

use crate::cli::lines::plain;
use crate::queue::look::Worker;
use crate::queue::watch::{BAR_S, Frame, Progress, Running};

/// How a picture is wanted.
#[derive(Clone, Debug)]
pub struct View {
    /// Columns.
    pub width: usize,
    /// Rows at most.
    pub height: usize,
    /// Rows of the tables that stand above the first one shown.
    pub scroll: usize,
    /// Whether the picture is held.
    pub held: bool,
    /// Why it is not newer.
    pub trouble: Option<String>,
}

/// A row of the picture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// What it says, not wider than the view.
    pub text: String,
    /// Whether it heads a table.
    pub is_head: bool,
}

/// Draws a look.
pub fn draw(frame: &Frame, view: &View) -> Vec<Line> {
    let mut lines = head(frame, view);
    let mut rows = Vec::new();
    table(
        &mut rows,
        &["SWEEP", "LEFT", "OF", "RUNS", "FAILED", "A MINUTE", "ENDS IN", ""],
        frame.sweeps.iter().map(sweep),
    );
    table(&mut rows, &["JOB", "KIND", "ON", "FOR", "TRY", "STEP", "SWEEP"], frame.running.iter().map(running));
    table(&mut rows, &["WORKER", "PID", "RUNS", "SLOTS", "BEAT", "MACHINE"], frame.workers.iter().map(worker));
    let room = view.height.saturating_sub(lines.len()).max(1);
    let skip = view.scroll.min(rows.len().saturating_sub(room));
    lines.extend(rows.into_iter().skip(skip));
    lines.truncate(view.height.max(1));
    for line in &mut lines {
        line.text = cut(&line.text, view.width);
    }
    lines
}

fn head(frame: &Frame, view: &View) -> Vec<Line> {
    let line = |text: String| Line { text, is_head: false };
    let jobs = frame.jobs;
    let time = frame.at.time();
    let mut state = format!("jobctl  {:02}:{:02}:{:02} UTC", time.hour(), time.minute(), time.second());
    if view.held {
        state += "  held: p goes on";
    }
    let counts = format!(
        "waiting {}  ready {}  later {}  held {}  running {}  failed lately {}",
        jobs.waiting, jobs.ready, jobs.later, jobs.held, jobs.running, frame.n_failed_lately
    );
    let n_lately: i64 = frame.ended.iter().rev().skip(1).take(6).sum();
    let n_bars = view.width.saturating_sub(24).clamp(1, frame.ended.len().max(1));
    let bars = &frame.ended[frame.ended.len().saturating_sub(n_bars)..];
    let pace = format!("{:>8.2} jobs/s  {}", n_lately as f64 / f64::from(6 * BAR_S), spark(bars));
    let mut lines = vec![Line { text: state, is_head: true }, line(counts), line(pace)];
    if let Some(trouble) = &view.trouble {
        lines.push(line(format!("not newer: {}", plain(trouble))));
    }
    lines
}

/// Bars that are as high as the numbers, the highest of which is the highest bar.
fn spark(numbers: &[i64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = numbers.iter().copied().max().unwrap_or(0).max(1);
    numbers
        .iter()
        .map(|n| if *n <= 0 { ' ' } else { BARS[usize::try_from((n * 8 - 1) / most).unwrap_or(0).min(7)] })
        .collect()
}

fn sweep(it: &Progress) -> Vec<String> {
    let done = if it.n_jobs > 0 { 1.0 - it.n_left as f64 / it.n_jobs as f64 } else { 1.0 };
    let n_full = ((done * 20.0) as usize).min(20);
    vec![
        plain(&it.sweep),
        it.n_left.to_string(),
        it.n_jobs.to_string(),
        it.n_running.to_string(),
        it.n_failed.to_string(),
        it.n_last_minute.to_string(),
        if it.paused { "paused".to_owned() } else { it.left_s().map_or_else(|| "-".to_owned(), span) },
        format!("{}{} {:.0} %", "█".repeat(n_full), "░".repeat(20 - n_full), (done * 100.0).floor()),
    ]
}

fn running(it: &Running) -> Vec<String> {
    vec![
        it.job.to_string(),
        plain(&it.kind),
        plain(&format!("{} {}", it.host, it.slot)),
        span(it.seconds),
        it.n_attempts.to_string(),
        it.done.zip(it.of).map_or_else(|| "-".to_owned(), |(done, of)| format!("{done}/{of}")),
        plain(it.sweep.as_deref().unwrap_or("-")),
    ]
}

fn worker(it: &Worker) -> Vec<String> {
    vec![
        plain(&it.host),
        it.pid.to_string(),
        it.n_running.to_string(),
        it.n_slots.to_string(),
        span(it.silent_s),
        plain(&it.machine),
    ]
}

/// Appends a table, or a line that says that there is nothing for it.
fn table(lines: &mut Vec<Line>, header: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<Vec<String>> = rows.collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|it| it[column].chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let join = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ")
    };
    lines.push(Line { text: String::new(), is_head: false });
    lines.push(Line { text: join(&header.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()), is_head: true });
    if rows.is_empty() {
        lines.push(Line { text: "(none)".to_owned(), is_head: false });
    }
    lines.extend(rows.iter().map(|it| Line { text: join(it), is_head: false }));
}

/// A time in two units at most.
fn span(seconds: f64) -> String {
    let s = seconds.clamp(0.0, 1e12) as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

/// At most `width` characters; what was longer ends in `…`. A line's break is no break here.
fn cut(text: &str, width: usize) -> String {
    let text = text.replace('\n', " ");
    if text.chars().count() <= width {
        return text;
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::{Frame, Progress, Running, View, cut, draw, span, spark};
    use crate::queue::watch::Counts;

    fn look(n_running: i64) -> Frame {
        let running = |job| Running {
            job,
            kind: "evaluate\u{1b}[2J".to_owned(),
            sweep: Some("demo-1".to_owned()),
            host: "host".to_owned(),
            slot: "cpu:0".to_owned(),
            n_attempts: 1,
            seconds: 61.0,
            done: Some(3),
            of: Some(28),
        };
        let sweep = Progress {
            sweep: "demo-1".to_owned(),
            paused: false,
            n_jobs: 100,
            n_left: 25,
            n_running,
            n_failed: 2,
            n_last_minute: 50,
        };
        Frame {
            at: OffsetDateTime::UNIX_EPOCH,
            workers: Vec::new(),
            running: (0..n_running).map(running).collect(),
            sweeps: vec![sweep],
            jobs: Counts { waiting: 1, ready: 2, later: 3, held: 4, running: n_running },
            ended: vec![0, 4, 8],
            n_failed_lately: 7,
        }
    }

    fn view(width: usize, height: usize) -> View {
        View { width, height, scroll: 0, held: false, trouble: None }
    }

    #[test]
    fn no_size_of_a_terminal_breaks_the_picture() {
        for width in [1, 2, 7, 20, 80, 300] {
            for height in [1, 2, 5, 24, 100] {
                for scroll in [0, 3, 1000] {
                    let lines = draw(&look(40), &View { scroll, ..view(width, height) });
                    assert!(!lines.is_empty() && lines.len() <= height);
                    assert!(lines.iter().all(|it| it.text.chars().count() <= width), "{width}×{height}");
                    assert!(lines.iter().all(|it| !it.text.contains(char::is_control)), "{width}×{height}");
                }
            }
        }
    }

    #[test]
    fn a_picture_says_what_is() {
        let text: Vec<String> = draw(&look(1), &view(120, 100)).into_iter().map(|it| it.text).collect();
        let text = text.join("\n");
        assert!(text.contains("waiting 1  ready 2  later 3  held 4  running 1  failed lately 7"), "{text}");
        assert!(text.contains("75 %") && text.contains("30s"), "{text}");
        assert!(text.contains("3/28") && text.contains("1m01s"), "{text}");
        assert!(text.contains("(none)"), "{text}");
    }

    #[test]
    fn scrolling_ends_at_the_last_row() {
        let all = draw(&look(40), &view(80, usize::MAX));
        let scrolled = draw(&look(40), &View { scroll: 10_000, ..view(80, 20) });
        assert_eq!(scrolled.last(), all.last());
        assert_eq!(scrolled.len(), 20);
    }

    #[test]
    fn bars_and_times_are_short() {
        assert_eq!(spark(&[0, 1, 4, 8]), " ▁▄█");
        assert_eq!([0.4, 59.9, 60.0, 3661.0, 90_000.0].map(span), ["0s", "59s", "1m00s", "1h01m", "1d01h"]);
        assert_eq!(cut("abcdef", 4), "abc…");
    }
}
