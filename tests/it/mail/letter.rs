//! What is in a mail, as another program reads it and as a browser shows it.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use jobctl::job::Hash;
use jobctl::job::task::MetricId;
use jobctl::mail::compose::{Content, Full, MOST_HTML, compose};
use jobctl::mail::letter::{Envelope, File, write};
use jobctl::report::definition::Definition;
use jobctl::report::history::{Found, Kept, analyse};
use jobctl::store::nights::{Night, NightFailure, NightScores, NightSource, NightSweep};
use serde_json::Value;
use time::Duration;
use time::macros::datetime;
use uuid::Uuid;

use crate::support::root;
use crate::support::smtp::python;

/// A definition over some sweep, with these blocks.
fn definition(blocks: &str) -> Definition {
    let text = format!(
        "name = \"nightly\"\ntitle = \"Ultra-high-resolution models, every night\"\n[sweeps]\nnames = [\"sd3\"]\n\
         [show]\ncharts = [\"history\", \"means\"]\n\
         [mail]\nto = [\"Bildgüte <team@example.org>\", \"me@example.org\"]\nfrom = \"jobctl <jobctl@example.org>\"\n{blocks}\n"
    );
    Definition::parse(&text, "nightly.toml").unwrap_or_else(|faults| panic!("{faults}"))
}

fn uniform(seed: usize) -> f64 {
    let mut z = (seed as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// A night of these sources by the first `n_metrics` metrics; on the last of `of` nights some of them are worse.
fn night(n: usize, of: usize, names: &[&str], n_metrics: usize) -> Night {
    let is_last = n + 1 == of;
    let sources: Vec<NightSource> = names
        .iter()
        .enumerate()
        .map(|(idx, name)| NightSource {
            sweep: 0,
            name: (*name).to_owned(),
            model: None,
            making: Some(serde_json::json!({ "steps": if is_last && idx == 1 { 20 } else { 28 } })),
            packages: BTreeSet::from([format!("{:012x}", idx + usize::from(is_last && idx == 0))]),
            pictures: Hash::of(name.as_bytes()),
            samples: (0..40).map(|it| (it, format!("sample {it}"))).collect(),
        })
        .collect();
    let mut scores = Vec::new();
    for source in 0..names.len() {
        for (place, row) in jobctl::metrics::TABLE.iter().take(n_metrics).enumerate() {
            let shift = if is_last && place < 3 { [-0.02, 0.015, 0.0][(source + place) % 3] } else { 0.0 };
            let value = |it: i32| {
                let seed = (source * 97 + place) * 40 + it as usize;
                0.6 + 0.05 * source as f64 + 0.1 * uniform(seed) + 0.004 * uniform(seed * 31 + n) + shift
            };
            let metric = MetricId { metric: row.name.into(), variant: row.variant.into(), version: row.version };
            scores.push(NightScores { source, metric, values: (0..40).map(|it| (it, Some(value(it)))).collect() });
        }
    }
    let failure = NightFailure {
        sweep: 0,
        kind: "decode".to_owned(),
        state: "failed".to_owned(),
        error: "the picture is black: <script>alert(1)</script>".to_owned(),
        n: 3,
    };
    Night {
        at: datetime!(2026-11-10 07:00 UTC) + Duration::days(n as i64),
        sweeps: vec![NightSweep {
            row: 1,
            slug: "sd3-12345678".to_owned(),
            name: "sd3".to_owned(),
            programs: BTreeSet::from(["jobctl 0.1.0 (f288650)".to_owned()]),
            machines: BTreeSet::new(),
            n_unfinished: 0,
        }],
        sources,
        scores,
        sets: Vec::new(),
        failures: if is_last { vec![failure] } else { Vec::new() },
    }
}

/// The last of some nights, and those before it.
fn nights(definition: &Definition, names: &[&str], n_metrics: usize) -> (Found, Vec<Kept>) {
    const N: usize = 9;
    let mut past: Vec<Kept> = Vec::new();
    for n in 0..N - 1 {
        let found = analyse(definition, &night(n, N, names, n_metrics), None, &past);
        past.insert(0, Kept { run: n as i64, good: true, found });
    }
    let before = night(N - 2, N, names, n_metrics);
    let found = analyse(definition, &night(N - 1, N, names, n_metrics), Some((&past[0], Some(&before))), &past);
    (found, past)
}

fn content(definition: &Definition, names: &[&str], n_metrics: usize) -> Content {
    let (found, past) = nights(definition, names, n_metrics);
    let full = Full::Attached("nightly-2026-11-18.html".to_owned());
    compose(definition, &found, &past, &full, Uuid::from_u128(7)).unwrap()
}

/// What Python's mail library reads.
fn read(message: &[u8]) -> Value {
    let mut child = Command::new(python())
        .arg(root().join("tests/it/mail/letter.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(message).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn message(content: &Content, files: &[File]) -> Vec<u8> {
    let mail = definition("").mail.unwrap();
    let envelope =
        Envelope { id: Uuid::from_u128(7), from: mail.from.unwrap(), to: mail.to, at: datetime!(2026-11-18 07:00 UTC) };
    write(&envelope, content, files).unwrap()
}

#[test]
fn another_program_reads_what_was_meant() {
    let content =
        content(&definition("subject = \"{title}: {verdict} ({date})\""), &["SD3-F16", "SD3-F16-WLF", "Sana · α"], 4);
    let report = File { name: "nightly-2026-11-18.html".to_owned(), media: "text/html", bytes: vec![b'x'; 100_000] };
    let bytes = message(&content, std::slice::from_ref(&report));
    let read = read(&bytes);
    assert_eq!(read["defects"], serde_json::json!([]));
    let pngs = ["image/png"; 4];
    let beside = [["text/html"].as_slice(), &pngs].concat();
    let related = serde_json::json!({ "multipart/related": beside });
    let alternative = serde_json::json!({ "multipart/alternative": ["text/plain", related] });
    assert_eq!(read["tree"], serde_json::json!({ "multipart/mixed": [alternative, "text/html"] }));
    let header = |name: &str| read["headers"][name].as_str().unwrap().to_owned();
    assert_eq!(header("message-id"), "<00000000-0000-0000-0000-000000000007@example.org>");
    assert_eq!(header("to"), "Bildgüte <team@example.org>, me@example.org");
    let subject = header("subject");
    assert!(
        subject.starts_with("Ultra-high-resolution models, every night: ") && subject.ends_with(" (2026-11-18)"),
        "{subject}"
    );
    assert_eq!(header("auto-submitted"), "auto-generated");
    assert_eq!(read["files"], serde_json::json!([{ "name": report.name, "type": "text/html", "bytes": 100_000 }]));
    assert!(read["longest_line"].as_u64().unwrap() <= 998);
    // Every picture that the HTML names is there, and nothing else.
    let wanted: BTreeSet<&str> = read["wanted"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    let there: BTreeSet<&str> = read["images"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!((wanted.len(), &wanted), (4, &there));
    for (id, it) in read["images"].as_object().unwrap() {
        assert_eq!((&it["how"], &it["head"][1]), (&"inline".into(), &80.into()), "{id}");
        assert!((5_000..200_000).contains(&it["bytes"].as_u64().unwrap()), "{id}: {it}");
    }
    assert_eq!(read["remote"], serde_json::json!([]));
    assert_eq!(read["html"].as_str().unwrap().replace("\r\n", "\n").trim_end(), content.html.trim_end());
}

#[test]
fn the_summary_comes_first_and_the_text_says_the_same() {
    let content = content(&definition(""), &["SD3-F16", "SD3-F16-WLF", "Sana · α"], 4);
    for part in [&content.html, &content.text] {
        let place = |what: &str| part.find(what).unwrap_or_else(|| panic!("{what} is not in {part}"));
        assert!(place("Regressions") < place("Problems") && place("Problems") < place("Better"));
        assert!(place("Better") < place("Since the last good night"));
        assert!(part.contains("SD3-F16") && part.contains("3 decode jobs failed"));
        assert!(part.contains("may be due to the package of SD3-F16:"), "{part}");
    }
    assert!(content.text.contains("REGRESSION"), "{}", content.text);
    assert!(content.html.contains("&lt;script&gt;") || content.html.contains("&#60;script&#62;"));
    assert!(!content.html.contains("<script"));
    // It reads well in 80 columns; a name or an address alone may be longer.
    let long: Vec<&str> = content.text.lines().filter(|it| it.chars().count() > 78).collect();
    assert!(long.is_empty(), "{long:#?}");
    for chart in &content.charts {
        assert!(chart.alt.contains("SD3-F16") && content.html.contains(&chart.alt), "{}", chart.alt);
    }
}

#[test]
fn the_html_stays_small_however_much_there_is_to_say() {
    let names: Vec<String> = (0..60).map(|it| format!("model-{it}-{}", "with a long name ".repeat(12))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let content = content(&definition(""), &names, 8);
    assert!(content.html.len() <= MOST_HTML, "{}", content.html.len());
    assert!(content.html.contains("more rows in the full report"));
    assert!(content.charts.len() <= 4);
    let whole = message(&content, &[]);
    assert!(whole.len() < 1_500_000, "{}", whole.len());
}

#[test]
fn names_that_steer_readers_are_tamed() {
    let definition = definition("");
    let content = content(&definition, &["a\u{202e}b", "<img src=x onerror=alert(1)>\"'&", "c\u{1b}[31m"], 2);
    for part in [&content.html, &content.text, &content.subject] {
        assert!(!part.chars().any(|it| matches!(it, '\u{202e}' | '\u{1b}')), "{part}");
    }
    assert!(!content.html.contains("<img src=x"));
    assert!(content.text.contains("<img src=x onerror=alert(1)>\"'&"));
}

#[test]
fn a_browser_shows_it_light_and_dark() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mail");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let content = content(&definition(""), &["SD3-F16", "SD3-F16-WLF", "Sana · α"], 4);
    let mut html = content.html.clone();
    for chart in &content.charts {
        std::fs::write(folder.join(&chart.name), &chart.png).unwrap();
        html = html.replace(&format!("cid:{}", chart.id), &chart.name);
    }
    std::fs::write(folder.join("text.txt"), &content.text).unwrap();
    let shoot = |name: &str, width: u32, dark: bool| {
        // Chromium's own switch for the preference of a page; `--force-dark-mode` is that of its frame.
        let page = folder.join(format!("{name}.html"));
        let shown = if dark { html.replace("(prefers-color-scheme: dark)", "all") } else { html.clone() };
        std::fs::write(&page, shown).unwrap();
        let shot = folder.join(format!("{name}.png"));
        let output = Command::new("chromium")
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", folder.join("profile").display()))
            .arg(format!("--screenshot={}", shot.display()))
            .arg(format!("--window-size={width},2600"))
            .arg(&page)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&shot).unwrap()));
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let n = info.color_type.samples();
        (pixels[0], pixels.chunks_exact(n).map(|it| it[..3].to_vec()).collect::<BTreeSet<_>>().len())
    };
    let (ground, n_colours) = shoot("light", 700, false);
    assert!(ground > 230 && n_colours > 100, "{ground} {n_colours}");
    let (ground, n_colours) = shoot("dark", 700, true);
    assert!(ground < 40 && n_colours > 100, "{ground} {n_colours}");
    shoot("narrow", 380, false);
}
