//! Asking over the wire: what goes out, what is kept, and that nothing is asked twice.

use jobctl::store::artifact::Artifacts;
use jobctl::store::read::{findings, findings_at};

use super::server::{Answer, KEY, SNAPSHOT, Server, TOKENS, Taste};
use super::{LONG, judged};
use crate::support::database::Database;
use crate::support::process::Running;
use crate::support::wait_until;

#[tokio::test(flavor = "multi_thread")]
async fn each_pair_is_asked_for_in_both_orders_and_never_again() {
    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &[]);
    let path = db.enqueue_judged("both", 3, "");
    db.ask_all(&server);
    db.check_judged(6, 18).await;
    let seen = server.seen();
    assert_eq!(seen.len(), 6);
    for it in &seen {
        assert_eq!(it.authorization.as_deref(), Some(format!("Bearer {KEY}").as_str()));
        assert_eq!(it.body["model"], "gpt-4o");
        let text = it.body["messages"][1]["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with("The caption for the two images is: what p00"), "{text}");
        assert_eq!(it.body["messages"][1]["content"].as_array().unwrap().len(), 3);
    }
    // Whoever was shown first, the sharper picture wins: no order is inconsistent with the other.
    let wins: Vec<(String, String, i64)> = sqlx::query_as(
        "select aspect, source.name, count(*)
        from verdict
        join cell on cell.picture = case choice when 'first' then first when 'second' then second end
        join source on source.sweep_id = cell.sweep_id and source.idx = cell.source_idx
        group by 1, 2
        order by 1",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    let titles = ["Fine Details", "Prompt Adherence", "Visual Aesthetics"];
    assert_eq!(wins, titles.map(|it| (it.to_owned(), "photos".to_owned(), 6)));
    assert_eq!(db.number("select count(distinct shown) from verdict").await, 2);
    assert_eq!(db.number("select count(*) from verdict where choice in ('tie', 'invalid')").await, 0);
    assert_eq!(db.text("select distinct rater from verdict").await, SNAPSHOT);
    assert_eq!(db.text("select distinct judge from verdict").await, "machine");
    assert_eq!(db.text("select distinct reason from verdict").await, "it shows more.");

    // What it cost is known to the cent's fraction.
    let status = db.jobctl(["status", "--json"], 0).json();
    let spent = &status["asking"][0];
    let price = (TOKENS.0 as f64 * 2.5 + TOKENS.1 as f64 * 10.0) / 1e6;
    assert!((spent["spent"].as_f64().unwrap() - 6.0 * price).abs() < 1e-9, "{spent}");
    assert!((spent["cost"].as_f64().unwrap() - 6.0 * price).abs() < 1e-9, "{spent}");
    assert_eq!((&spent["answered"], &spent["lost"], &spent["again"]), (&6.into(), &0.into(), &0.into()));
    assert_eq!(spent["tokens_in"], 6 * TOKENS.0);
    assert!(db.jobctl(["status"], 0).out.contains("$0.0210"));

    // The report has it beside the verdicts, as it is now and as it was before anything was asked.
    let artifacts = Artifacts::new(db.home.path().join("store"));
    let found = findings(&db.pool, &artifacts, 1).await.unwrap();
    let cost = &found.asked[0];
    assert_eq!((cost.name.as_str(), cost.answered, cost.tokens_out), ("gpt", 6, 6 * TOKENS.1 as i64));
    assert!((cost.spent - 6.0 * price).abs() < 1e-9 && (cost.cost - 6.0 * price).abs() < 1e-9, "{cost:?}");
    // Nothing is scored in this sweep: its pictures are known from the questions.
    assert_eq!((found.images.len(), found.scores.len()), (6, 0));
    let report = jobctl::report::analyse(&found);
    let preferences = &report.opinions.as_ref().unwrap().preferences;
    assert_eq!(preferences.len(), 3, "{preferences:?}");
    for it in preferences {
        let tally = if it.first == "photos" { it.tally } else { it.tally.turned() };
        assert_eq!((tally.wins, tally.ties, tally.losses), (3, 0, 0), "{it:?}");
    }
    let out = db.home.path().join("report");
    let written = jobctl::report::write(&found, &out, &jobctl::report::Options::default()).unwrap();
    let page = std::fs::read_to_string(written.html).unwrap();
    let table = page.split_once("What judging has cost").unwrap().1.split_once("</table>").unwrap().0;
    for word in [">gpt<", ">gpt-4o<", ">6<", ">6,000<", ">0.0210<", ">5.00<", "0 % of it spent"] {
        assert!(table.contains(word), "{word}: {table}");
    }
    // The question that the page shows is the one that was asked, the pictures' captions aside.
    let shown = page.split("What a machine judge is asked").nth(1).unwrap();
    for message in seen[0].body["messages"].as_array().unwrap() {
        let text = message["content"].as_str().or_else(|| message["content"][0]["text"].as_str()).unwrap();
        for line in text.lines().map(str::trim).filter(|it| !it.is_empty() && !it.contains("what p0")) {
            let escaped = [('&', "&#38;"), ('<', "&#60;"), ('>', "&#62;"), ('"', "&#34;"), ('\'', "&#39;")]
                .iter()
                .fold(line.to_owned(), |line, (from, to)| line.replace(*from, to));
            assert!(shown.contains(&escaped), "{escaped}");
        }
    }
    let before = sqlx::query_scalar("select min(asked_at) - interval '1 ms' from asked").fetch_one(&db.pool).await;
    let found = findings_at(&db.pool, &artifacts, 1, before.unwrap()).await.unwrap();
    assert_eq!((found.asked[0].answered, found.asked[0].open, found.asked[0].spent), (0, 0, 0.0));
    let between = sqlx::query_scalar("select max(asked_at) from asked").fetch_one(&db.pool).await;
    let then = &findings_at(&db.pool, &artifacts, 1, between.unwrap()).await.unwrap().asked[0];
    assert_eq!(then.answered + then.open, 6);
    assert!(then.open >= 1 && then.spent > then.cost && then.cost < 6.0 * price, "{then:?}");

    // The same again, and the same under another name and the other way round, is known.
    let again = db.jobctl(["enqueue", path.to_str().unwrap(), "--json"], 0).json();
    assert_eq!((&again["new"], &again["done"]["judge"]), (&serde_json::json!({}), &6.into()));
    let text = std::fs::read_to_string(&path).unwrap();
    let other = db.home.path().join("other.toml");
    let text =
        text.replace("name = \"both\"", "name = \"other\"").replace("[\"photos\", \"soft\"]", "[\"soft\", \"photos\"]");
    std::fs::write(&other, text).unwrap();
    let said = db.jobctl(["enqueue", other.to_str().unwrap(), "--json"], 0).json();
    assert_eq!((&said["new"], &said["done"]["judge"]), (&serde_json::json!({}), &6.into()));
    db.ask_all(&server);
    assert_eq!(server.seen().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judge_that_likes_what_comes_first_contradicts_itself_in_the_tables() {
    let db = Database::new().await;
    let server = Server::start(Taste::First, &[]);
    db.enqueue_judged("biased", 2, "aspects = [\"fine_details\"]");
    db.ask_all(&server);
    db.check_judged(4, 4).await;
    let flips = "select count(*) from verdict as one join verdict as other using (first, second, aspect)
        where one.shown = 'first_first' and other.shown = 'second_first' and one.choice = 'first' and other.choice = 'second'";
    assert_eq!(db.number(flips).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn crops_are_asked_about_on_details_alone_at_equal_places() {
    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &[]);
    db.enqueue_judged("cropped", 1, "crops = 4\nboth_orders = false");
    db.ask_all(&server);
    // A picture that is hardly larger than a crop has room for two places.
    db.check_judged(3, 3 + 2).await;
    let crops = "select count(distinct (x, y)) from verdict where aspect = 'Fine Details (crops)' and width = 96 and height = 96";
    assert_eq!(db.number(crops).await, 2);
    let whole = "select count(*) from verdict where x is null and aspect = 'Fine Details'";
    assert_eq!(db.number(whole).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_stops_it_and_a_larger_one_lets_it_go_on() {
    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &[]);
    // Reserved is the most that an answer may cost: about a cent; spent then 0.35 cents.
    let path = db.enqueue_judged("poor", 4, "budget = 0.0175");
    db.ask_all(&server);
    let n_asked = server.seen().len() as i64;
    assert!((1..8).contains(&n_asked), "{n_asked}");
    assert!(db.number("select (spent * 1e6)::bigint from asking").await <= 17_500);
    let failed =
        "select count(*) from job_history where state = 'failed' and error like 'budget spent: `gpt` may cost 0.0175%'";
    assert_eq!(db.number(failed).await, 8 - n_asked);
    // The same budget again changes nothing.
    db.jobctl(["enqueue", path.to_str().unwrap()], 0);
    assert_eq!(db.number("select count(*) from job").await, 0);
    judged(&db, "poor", 4, "budget = 1.0");
    let said = db.jobctl(["enqueue", path.to_str().unwrap(), "--json"], 0).json();
    assert_eq!(said["revived"], 8 - n_asked);
    db.ask_all(&server);
    db.check_judged(8, 24).await;
    assert_eq!(server.seen().len(), 8, "what was answered before is not asked again");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_endpoint_nothing_is_asked_and_status_says_why() {
    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &[]);
    db.enqueue_judged("alone", 1, "");
    let mut worker = db.spawn(["worker", "--slots", "1"]);
    wait_until("status says it", LONG, async || db.jobctl(["status"], 0).out.contains("JOBCTL_OPENAI_KEY")).await;
    assert_eq!(db.number("select count(*) from attempt").await, 0);
    assert!(worker.is_running());
    // Another endpoint than the one that the sweep insists on never sees its requests, nor the key.
    let db = Database::new().await;
    db.enqueue_judged("there", 1, "url = \"http://127.0.0.1:9/v1/\"");
    let _worker = db.asker(&server);
    wait_until("status says it", LONG, async || {
        db.jobctl(["status"], 0).out.contains("does not ask http://127.0.0.1:9/v1")
    })
    .await;
    assert!(server.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_nowhere_but_in_the_request() {
    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &[Answer::Gated, Answer::Status(401, "", "no such key")]);
    db.enqueue_judged("quiet", 1, "both_orders = false");
    let mut command = db.asking(&server, &["worker", "--slots", "1", "--until-idle"]);
    command.env("JOBCTL_LOG", "trace");
    let mut worker = Running::start(command);
    wait_until("it asks", LONG, async || !server.seen().is_empty()).await;
    let slots = worker.slots();
    assert!(!slots.is_empty());
    for pid in slots {
        let read = |name: &str| std::fs::read(format!("/proc/{}/{name}", pid.as_raw_nonzero())).unwrap_or_default();
        let seen = [read("environ"), read("cmdline")].concat();
        assert!(!String::from_utf8_lossy(&seen).contains(KEY));
    }
    server.open_gate();
    let said = worker.ends_with(0, LONG);
    assert!(!said.contains(KEY), "{said}");
    assert!(!db.dump().await.contains(KEY));
    db.check_judged(1, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_says_what_it_would_cost_before_anything_is_asked() {
    let db = Database::new().await;
    let path = judged(&db, "dear", 3, "budget = 0.01");
    let path = path.to_str().unwrap();
    let said = db.jobctl(["judge", "estimate", path, "--json"], 0).json();
    assert_eq!((&said[0]["requests"], &said[0]["model"]), (&6.into(), &"gpt-4o".into()));
    // Two pictures of one tile each, and the question.
    let tokens_in = said[0]["tokens_in"].as_u64().unwrap();
    assert!((6 * 2 * 255..6 * 1000).contains(&tokens_in), "{tokens_in}");
    assert!(said[0]["cost"].as_f64().unwrap() > 0.01);
    let said = db.jobctl(["enqueue", path, "--dry-run"], 0).out;
    assert!(said.contains("asks     judge `gpt`: 6 requests to gpt-4o") && said.contains("will not last"), "{said}");
    assert_eq!(db.number("select count(*) from asking").await, 0);
}

#[test]
fn the_sweeps_of_the_docs_and_of_jobs_are_right() {
    let root = crate::support::root();
    let docs = std::fs::read_to_string(root.join("docs/judging.md")).unwrap();
    let mut texts: Vec<String> =
        docs.split("```toml\n").skip(1).map(|it| it.split("```").next().unwrap().to_owned()).collect();
    assert_eq!(texts.len(), 2);
    texts.extend(["judge.toml", "table-6.toml"].map(|it| std::fs::read_to_string(root.join("jobs").join(it)).unwrap()));
    for text in texts {
        let sweep = jobctl::sweep::Sweep::parse(&text, "a.toml").unwrap_or_else(|it| panic!("{it}"));
        assert!(!(sweep.judge.is_empty() && sweep.caption.is_empty()));
    }
}
