//! Names, captions and prompts from people who mean harm, through every verb that shows them.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::database::Database;
use crate::support::golden;
use crate::support::pictures::pictures;

/// Texts, none of which may do anything but be shown.
const HOSTILE: [&str; 13] = [
    "'; drop table score; --",
    "\"$(touch pwned)\"; `touch pwned` | touch pwned &",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "two\nlines\r\nand\ttabs",
    "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m",
    "\u{202e}gnp.exe\u{2066}\u{200f}",
    "%s%n%x {0} {{}} ${HOME}",
    "-rf --help",
    "\\..\\..\\windows",
    "&amp;&lt; </td></table> \u{0}",
    "NULL",
    "=cmd|' /C calc'!A0",
    "名前 \u{1F642} e\u{301}",
];

/// Whether a terminal could take a text for more than a text.
fn is_safe(text: &str) -> bool {
    let steers = |it: char| matches!(it, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.chars().any(|it| (it.is_control() && it != '\n') || steers(it))
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_texts_are_shown_and_do_nothing() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    let files = pictures(&folder, 1);
    let mut captions = String::new();
    let mut prompts = String::new();
    for (idx, text) in HOSTILE.iter().enumerate() {
        // A file's name has no NUL and no slash.
        let name = format!("{idx} {}.png", text.replace('\0', "").replace('/', "\u{2215}"));
        fs::copy(&files[0], folder.join(&name)).unwrap();
        captions.push_str(&format!("{}\n", serde_json::json!({ "file_name": name, "text": text })));
        prompts.push_str(&format!(
            "{}\n",
            serde_json::json!({ "file_name": format!("{idx}/{text}"), "text": text.replace('\0', "") })
        ));
    }
    // The longest name that there can be, deep in folders; prompts as long as a page.
    let deep = folder.join("d".repeat(200)).join("e".repeat(200)).join("f".repeat(200));
    fs::create_dir_all(&deep).unwrap();
    fs::copy(&files[0], deep.join(format!("{}.png", "n".repeat(250)))).unwrap();
    prompts.push_str(&format!(
        "{}\n",
        serde_json::json!({ "file_name": "x".repeat(4096), "text": "\u{1b}[1m<b>".repeat(600) })
    ));
    // Captions of files that are not theirs to speak of.
    for name in ["../../../etc/passwd", "/etc/passwd", "..", ""] {
        captions.push_str(&format!("{}\n", serde_json::json!({ "file_name": name, "text": "elsewhere" })));
    }
    // What is no picture is not read as one, wherever a link leads.
    symlink("/etc/passwd", folder.join("passwd.png")).unwrap();
    fs::write(folder.join("metadata.jsonl"), captions).unwrap();
    fs::write(db.home.path().join("prompts.jsonl"), prompts).unwrap();
    let path = db.home.path().join("hostile.toml");
    let text = format!(
        "name = \"hostile\"\n[[images]]\nname = \"photos\"\npath = \"photos\"\ncaptions = \"metadata.jsonl\"\n\
         [[generate]]\nname = \"tiny\"\nmodel = {:?}\nprompts = \"prompts.jsonl\"\nsize = 64\nsteps = 1\nguidance = 1\n\
         t5_tokens = 16\ndtype = \"f32\"\n[evaluate]\nmetrics = [\"glcm_entropy\"]\n",
        golden("sd3/tiny")
    );
    fs::write(&path, text).unwrap();
    let before = outside(&db);
    let path = path.to_str().unwrap();
    let enqueued = db.jobctl(["enqueue", path, "--upload"], 0);
    assert!(is_safe(&enqueued.out) && is_safe(&enqueued.err));
    assert_eq!(db.number("select count(*) from sweep_file").await, 1, "all but the link are one picture");
    let ran = db.jobctl(["run", path], 1);
    assert!(is_safe(&ran.out) && is_safe(&ran.err), "{}", ran.err);
    db.check_laws().await;

    // Every picture was scored but the one that is none; every prompt gave a picture.
    let n_files = HOSTILE.len() as i64 + 2;
    assert_eq!(db.number("select count(*) from metric_history where source = 'photos'").await, n_files);
    assert_eq!(db.number("select count(*) from metric_history where source = 'tiny'").await, HOSTILE.len() as i64 + 1);
    assert_eq!(db.number("select count(*) from failure").await, 1);
    assert!(db.text("select error from failure").await.contains("not a JPEG, PNG or WebP"));
    for text in HOSTILE {
        let known: i64 = sqlx::query_scalar("select count(*) from generation where prompt = $1")
            .bind(text.replace('\0', ""))
            .fetch_one(&db.pool)
            .await
            .unwrap();
        assert_eq!(known, 1, "{text:?}");
    }

    let mut verbs: Vec<Vec<String>> =
        ["status", "status --json", "jobs --limit 500", "jobs --limit 500 --json", "status hostile", "db check"]
            .iter()
            .map(|it| it.split(' ').map(str::to_owned).collect())
            .collect();
    let jobs: Vec<i64> = sqlx::query_scalar("select id from job_history where kind <> 'pool' order by id")
        .fetch_all(&db.pool)
        .await
        .unwrap();
    for job in jobs.iter().step_by(7) {
        verbs.extend(["show", "logs"].map(|it| vec![it.to_owned(), job.to_string()]));
    }
    for verb in verbs {
        let output = db.command(&verb).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(is_safe(&out) && is_safe(&err), "{verb:?}: {out}{err}");
    }
    let html = fs::read_to_string(db.jobctl(["report", "hostile"], 0).out.trim()).unwrap();
    for tag in ["<script>alert", "<img src=x", "</table> \u{fffd}", "<b>\u{1b}"] {
        assert!(!html.contains(tag), "{tag} is in the report");
    }
    assert!(
        html.contains("&#60;script&#62;alert(1)") || html.contains("&lt;script&gt;alert(1)"),
        "it is shown as text"
    );
    assert_eq!(outside(&db), before, "something was written outside");
    assert!(!std::path::Path::new("pwned").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_hostile_sweeps_are_shown_safely() {
    let db = Database::new().await;
    for text in HOSTILE {
        let path = db.home.path().join("bad.toml");
        fs::write(
            &path,
            format!(
                "name = {}\n[[images]]\nname = \"a\"\npath = {}\n",
                serde_json::json!(text),
                serde_json::json!(text)
            ),
        )
        .unwrap();
        let output = db.command(["enqueue", path.to_str().unwrap()]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.code().is_some_and(|it| it == 1 || it == 2), "{said}");
        assert!(is_safe(&said), "{said:?}");
    }
    assert_eq!(db.number("select count(*) from sweep").await, 0);
}

/// What lies in the test's home beside the program's own folders.
fn outside(db: &Database) -> Vec<String> {
    let mut names: Vec<String> = walkdir::WalkDir::new(db.home.path())
        .into_iter()
        .map(|it| it.unwrap().path().strip_prefix(db.home.path()).unwrap().to_string_lossy().into_owned())
        .filter(|it| !["artifacts", "reports", "cache", "scratch"].iter().any(|own| it.starts_with(own)))
        .collect();
    names.sort();
    names
}
