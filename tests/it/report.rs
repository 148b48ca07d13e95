//! The analysed value is pinned; the page is opened in a browser.

mod browser;
mod findings;
mod judges;
mod models;
mod opinions;
mod paper;
mod reading;
mod sets;
mod trained;
mod whole;

use std::path::{Path, PathBuf};

use jobctl::report::view::{Report, Tone, Verdict};
use jobctl::report::{self, Options};
use jobctl::store::findings::Findings;
use serde_json::Value;

use browser::{Proxy, Scheme, View};
use findings::{HOSTILE, findings};

const WIDE: View = View { width: 1280, scheme: Scheme::Light };

/// A new, empty folder under the build's own temporary one, where a person can look at what a test left.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn page(name: &str, change: impl Fn(&mut Findings), options: &Options) -> (PathBuf, String) {
    let folder = folder(name);
    let mut findings = findings(&folder);
    change(&mut findings);
    let written = report::write(&findings, &folder, options).unwrap();
    let page = std::fs::read_to_string(&written.html).unwrap();
    (written.html, page)
}

fn metric(report: &Report, name: &str) -> usize {
    report.metrics.iter().position(|it| it.id.metric == name).unwrap()
}

/// JSON without what is long, with six digits after the point.
fn pinned(value: Value) -> Value {
    match value {
        Value::Number(it) => it.as_f64().map_or(Value::Null, |it| ((it * 1e6).round() / 1e6).into()),
        Value::Array(items) => items.into_iter().map(pinned).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(name, _)| !["values", "lines", "points", "images", "about", "definition"].contains(&&**name))
            .map(|(name, value)| (name, pinned(value)))
            .collect(),
        other => other,
    }
}

#[test]
fn equal_findings_give_the_same_numbers_for_ever() {
    let report = report::analyse(&findings(&folder("pin")));
    insta::assert_json_snapshot!(pinned(serde_json::to_value(&report).unwrap()));
}

#[test]
fn a_wrong_order_is_called_wrong_and_a_right_one_right() {
    let report = report::analyse(&findings(&folder("verdicts")));
    let verdict = |name: &str, ladder: usize| report.ladders[ladder].results[metric(&report, name)].verdict;
    let of = |name| [verdict(name, 0), verdict(name, 1), verdict(name, 2), verdict(name, 3)];
    let kinds: Vec<&str> = report.ladders.iter().map(|it| it.kind.as_str()).collect();
    assert_eq!(kinds, ["blur", "resize", "jpeg", "noise"]);
    // Higher is better for one, lower for the other; both must be read the right way round.
    assert_eq!(of("glcm_score"), [Verdict::Right, Verdict::Right, Verdict::Right, Verdict::Wrong]);
    assert_eq!(of("compression_ratio"), [Verdict::Right, Verdict::Right, Verdict::Unclear, Verdict::Wrong]);
    assert_eq!(of("psnr"), [Verdict::Right; 4]);
    assert_eq!(of("nmse"), [Verdict::Right; 4]);
    let first = &report.conclusions[0];
    assert_eq!(first.tone, Tone::Wrong);
    assert!(first.text.starts_with("GLCM score orders noise the wrong way round"), "{}", first.text);
    assert!(first.text.contains("8 of 8 samples reversed"), "{}", first.text);
}

#[test]
fn undefined_scores_are_left_out_and_counted() {
    let report = report::analyse(&findings(&folder("undefined")));
    let psnr = metric(&report, "psnr");
    let cell = &report.sources[1].cells[psnr];
    assert_eq!((cell.n, cell.n_undefined, cell.n_missing), (0, 8, 0));
    assert!(cell.mean.is_err() && cell.interval.is_none());
    let cell = &report.sources[2].cells[psnr];
    assert_eq!((cell.n, cell.n_undefined, cell.n_missing), (7, 0, 1));
    let gap = |source: usize| report.gaps.iter().find(|it| (it.metric, it.source) == (psnr, source)).unwrap();
    assert_eq!((gap(1).why.as_str(), gap(1).samples.len()), ("the images are equal", 8));
    assert_eq!((gap(2).why.as_str(), gap(2).samples.join(",")), ("its job failed", "market".to_owned()));
    // Four rungs remain of five where the undamaged picture has no score.
    let line = &report.ladders[0].results[psnr].lines[0];
    assert_eq!(line.values.iter().filter(|it| it.is_some()).count(), 4);
    assert_eq!(line.agreement, Ok(1.0));
}

#[test]
fn two_images_of_one_name_stay_apart() {
    let mut findings = findings(&folder("twins"));
    let n_samples = report::analyse(&findings).samples.len();
    for image in findings.images.iter_mut().filter(|it| it.sample == "street") {
        image.sample = "forest".to_owned();
    }
    let report = report::analyse(&findings);
    assert_eq!(report.samples.len(), n_samples);
    assert!(report.samples.iter().any(|it| it.name == "forest (2)"));
}

#[test]
fn hostile_names_stay_text_and_tables_sort() {
    let (path, page) = page("browser", |_| {}, &Options::default());
    let probe = include_str!("report/probe.js");
    let policy = page.find("<meta http-equiv").unwrap();
    let policy_end = policy + page[policy..].find('>').unwrap() + 1;
    let ears = "<script>window.errors = []; window.alerts = 0; window.onerror = (it) => errors.push(it); \
                window.alert = () => alerts++;</script>";
    let probed = format!("{}{ears}{}", &page[..policy], &page[policy_end..])
        .replace("</body>", &format!("<script>{probe}</script></body>"));
    let probed_path = path.with_file_name("probed.html");
    std::fs::write(&probed_path, probed).unwrap();
    let look = |view| {
        let dom = browser::open(&probed_path, view, &Proxy::start());
        let json = dom.rsplit_once("<pre id=\"result\">").expect("the probe ran to its end").1;
        let json = json.split_once("</pre>").unwrap().0.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        serde_json::from_str::<Value>(&json).unwrap()
    };

    let wide = look(WIDE);
    assert_eq!(wide["errors"], serde_json::json!([]));
    assert_eq!(wide["alerts"], 0);
    // Our own and the two that this test put in.
    assert_eq!(wide["scripts"], 3);
    assert_eq!(wide["handlers"], 0);
    assert_eq!(wide["foreign"], 0);
    assert_eq!(wide["unnamed"], 0);
    assert_eq!(wide["title"], "demo <b>& more</b>: jobctl report");
    for name in HOSTILE {
        assert!(page.contains(&name.replace('<', "&#60;").replace('>', "&#62;").replace('"', "&#34;")), "{name}");
        assert!(!page.contains(name), "{name}");
    }

    assert_eq!(wide["focused"], true);
    assert_eq!(wide["aria"], "ascending");
    assert_eq!(wide["rising"][0], "crops blur sigma=4");
    assert_eq!(wide["falling"][0], "crops noise sigma=16");
    assert_eq!(wide["unlike"], true);
    assert_eq!(wide["last"], serde_json::json!(["crops", "photos"]), "undefined sorts last");
    assert_eq!(wide["restored"], true);
    assert_eq!(wide["viewer"]["open"], true);
    assert_eq!(wide["viewer"]["moved"], true);

    let narrow = look(View { width: 400, scheme: Scheme::Dark });
    assert!(narrow["overflow"].as_i64().unwrap() <= 0, "{}", narrow["overflow"]);
    assert_ne!(narrow["paper"], wide["paper"], "dark and light differ");
}

#[test]
fn no_request_leaves_the_page_and_no_other_script_runs() {
    let (path, page) = page("network", |_| {}, &Options::default());
    let proxy = Proxy::start();
    let dom = browser::open(&path, WIDE, &proxy);
    assert!(dom.contains("<html lang=\"en\" class=\"js\">"), "the page's own script runs under its policy");
    assert_eq!(proxy.requests(), Vec::<String>::new());

    // Were a name not escaped, the policy would still hold it.
    let intruder = "<img src=\"http://leak.example/a.png\"><script>document.title = 'taken'</script></body>";
    let attacked = path.with_file_name("attacked.html");
    std::fs::write(&attacked, page.replace("</body>", intruder)).unwrap();
    let dom = browser::open(&attacked, WIDE, &proxy);
    assert!(!dom.contains("<title>taken"));
    assert_eq!(proxy.requests(), Vec::<String>::new());

    // The same without a policy: what the assertions above would see.
    let open = path.with_file_name("open.html");
    std::fs::write(&open, page.replace("http-equiv", "data-was").replace("</body>", intruder)).unwrap();
    let dom = browser::open(&open, WIDE, &proxy);
    assert!(dom.contains("<title>taken"));
    assert!(proxy.requests().iter().any(|it| it.contains("leak.example")), "{:?}", proxy.requests());
}

#[test]
fn the_page_keeps_to_its_limit_and_says_what_it_leaves_out() {
    let (_, whole) = page("whole", |_| {}, &Options::default());
    assert!(whole.len() < 10_000_000, "{} bytes", whole.len());
    assert!(whole.contains("Not shown (the gallery&#39;s limit)"));
    let max_bytes = 1_100_000;
    let (_, small) = page("limited", |_| {}, &Options { max_bytes, ..Options::default() });
    assert!(small.len() <= max_bytes, "{} bytes", small.len());
    assert!(small.contains("Not shown (the page would grow too large)"));
    assert!(small.contains("data:image/jpeg"), "there is room for some");
}

#[test]
fn pictures_that_are_gone_or_have_changed_are_named_in_their_place() {
    let (_, page) = page(
        "gone",
        |findings| {
            for image in &mut findings.images {
                match image.sample.as_str() {
                    "forest" => image.path = None,
                    "market" => image.path = image.path.as_ref().map(|it| it.with_file_name("nowhere.jpg")),
                    "street" => image.path = image.path.as_ref().map(|it| it.with_file_name("0.jpg")),
                    _ => {}
                }
            }
        },
        &Options { max_samples: 8, ..Options::default() },
    );
    assert!(page.contains("its file is not known on this machine"));
    assert!(page.contains("nowhere.jpg cannot be read"));
    assert!(page.contains("0.jpg has changed since it was scored"));
    assert!(page.contains("data:image/jpeg"), "the others are shown");
}

#[test]
fn a_sweep_of_which_nothing_is_done_has_a_report_too() {
    let (_, page) = page(
        "empty",
        |findings| {
            findings.images.clear();
            findings.scores.clear();
            findings.set_scores.clear();
            findings.failures.clear();
        },
        &Options::default(),
    );
    assert!(page.contains("0 of 0 images have scores"));
    assert!(page.contains("No image has a score."));
    assert!(page.contains("None: every job that has ended has its result."));
}

#[test]
fn a_report_replaces_the_one_before_and_leaves_nothing_else() {
    let folder = folder("again");
    let findings = findings(&folder);
    let out = folder.join("out/deep");
    let first = report::write(&findings, &out, &Options { max_samples: 0, ..Options::default() }).unwrap();
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    let before = size(&first.html);
    let second = report::write(&findings, &out, &Options { max_samples: 1, ..Options::default() }).unwrap();
    assert!(size(&second.html) > before);
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 2);

    std::fs::write(folder.join("file"), "").unwrap();
    let error = report::write(&findings, &folder.join("file"), &Options::default()).unwrap_err();
    assert!(format!("{error:#}").contains("file"), "{error:#}");
}
