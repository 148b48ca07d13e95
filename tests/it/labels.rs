//! `jobctl labels`: imports that add nothing twice, agreement, and blind sheets that come back.

use std::fs;
use std::path::Path;

use jobctl::job::task::Picture;
use jobctl::job::{Hash, JobId};
use jobctl::labels::{Choice, Judge, Pair, Rating, Scale, Shown, Verdict};
use jobctl::store::labels::{Added, From, all, of_sweep, write_ratings, write_verdicts};

use crate::support::database::Database;
use crate::support::pictures::{LADDER, pictures, sweep};

fn verdict(shown: Shown, choice: Choice) -> Verdict {
    Verdict {
        pair: Pair::Pictures { first: Hash::of(b"a"), second: Hash::of(b"b") },
        area: None,
        aspect: "Fine Details".to_owned(),
        judge: Judge::machine("judge-2026-01-01", "prompts-1"),
        shown,
        choice,
        reason: "sharper\0 edges".to_owned(),
        attention: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_label_twice_is_one_row_and_another_one_is_told() {
    let db = Database::new().await;
    let rating = |value| Rating {
        picture: Hash::of(b"a"),
        area: None,
        aspect: "quality".to_owned(),
        judge: Judge::human("ann"),
        value,
        scale: Some(Scale { low: 1.0, high: 5.0 }),
        attention: None,
    };
    let from = From::Job(JobId(7));
    let mut tx = db.pool.begin().await.unwrap();
    let added = write_ratings(&mut tx, from, &[rating(3.0)]).await.unwrap();
    assert_eq!(added, Added { n_new: 1, ..Added::default() });
    let added = write_ratings(&mut tx, from, &[rating(3.0), rating(4.0)]).await.unwrap();
    assert_eq!(added, Added { n_new: 0, n_known: 1, differing: vec![1] });
    let both = [verdict(Shown::FirstFirst, Choice::First), verdict(Shown::SecondFirst, Choice::Second)];
    assert_eq!(write_verdicts(&mut tx, from, &both).await.unwrap().n_new, 2);
    assert_eq!(write_verdicts(&mut tx, from, &both).await.unwrap().n_known, 2);
    tx.commit().await.unwrap();
    let labels = all(&db.pool).await.unwrap();
    assert_eq!(labels.ratings[0].label, rating(3.0));
    let reason = "sharper\u{fffd} edges".to_owned();
    let mut read: Vec<Verdict> = labels.verdicts.into_iter().map(|it| it.label).collect();
    read.sort_by_key(|it| it.shown);
    assert_eq!(read, both.map(|it| Verdict { reason: reason.clone(), ..it }));
    // What is no rating is refused by the table itself.
    for wrong in [rating(f64::NAN), rating(7.0)] {
        let mut tx = db.pool.begin().await.unwrap();
        let other = Rating { aspect: "other".to_owned(), ..wrong };
        assert!(write_ratings(&mut tx, from, &[other]).await.is_err());
    }
}

/// A finished sweep of four pictures and their blurred copies.
async fn finished(db: &Database) -> i32 {
    let folder = db.home.path().join("photos");
    pictures(&folder, 4);
    let path = sweep(&folder, "rated", LADDER, &["glcm_score"]);
    db.jobctl(["run", path.to_str().unwrap()], 0);
    db.number("select max(id)::bigint from sweep").await as i32
}

fn import(db: &Database, name: &str, text: &str, arguments: &[&str], status: i32) -> (String, String) {
    let path = db.home.path().join(name);
    fs::write(&path, text).unwrap();
    let printed = db.jobctl([&["labels", "import", path.to_str().unwrap()], arguments].concat(), status);
    (printed.out, printed.err)
}

#[tokio::test(flavor = "multi_thread")]
async fn ratings_find_their_pictures_by_path_hash_and_sample() {
    let db = Database::new().await;
    let sweep = finished(&db).await;
    let text = "path,rater,rating\nphotos/p000.png,ann,4\nphotos/p001.jpg,ann,2\nphotos/p000.png,bob,5\nphotos/p002.png,bob,\n";
    let arguments = ["--aspect", "quality", "--scale", "1,5", "--json"];
    let dry = import(&db, "a.csv", text, &[&arguments[..], &["--dry-run"]].concat(), 0).0;
    assert!(dry.contains("\"new\":3") && dry.contains("\"unanswered\":1"), "{dry}");
    assert_eq!(
        db.number("select count(*) from rating").await + db.number("select count(*) from label_import").await,
        0
    );
    assert!(import(&db, "a.csv", text, &arguments, 0).0.contains("\"new\":3"));
    assert!(import(&db, "a.csv", text, &arguments, 0).0.contains("\"new\":0"));
    // The file has grown: what it had is known.
    let grown = format!("{text}photos/p003.jpg,ann,3\n");
    let said = import(&db, "a.csv", &grown, &arguments, 0).0;
    assert!(said.contains("\"new\":1") && said.contains("\"known\":3"), "{said}");
    let content = Hash::of(&fs::read(db.home.path().join("photos/p000.png")).unwrap());
    let key = Picture::of_file(content, Vec::new()).key();
    let by_hash = format!("hash,who,value\n{},cid,1\n{},cid,2\n", key.short(), &content.to_string()[..12]);
    let (_, err) = import(&db, "b.csv", &by_hash, &["--aspect", "quality", "--map", "who=rater"], 2);
    assert!(err.contains("line 3: the same rater has said something else"), "{err}");
    import(&db, "b.csv", &by_hash.replace(",cid,2", ",dan,2"), &["--aspect", "quality", "--map", "who=rater"], 0);
    let by_sample = "sample,source,rater,score\np000,photos,eve,2\np001,photos blur sigma=2,eve,1\n";
    import(&db, "c.csv", by_sample, &["--aspect", "quality", "--sweep", "rated"], 0);
    let labels = of_sweep(&db.pool, sweep, None).await.unwrap();
    assert_eq!(labels.ratings.iter().filter(|it| it.label.picture == key).count(), 5);
    assert_eq!(db.number("select count(*) from rating_history where source = 'photos blur sigma=2'").await, 1);
    let listed = db.jobctl(["labels", "list"], 0).out;
    assert!(listed.contains("a.csv") && listed.contains("c.csv"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_imported_is_said_line_by_line_and_nothing_is_written() {
    let db = Database::new().await;
    finished(&db).await;
    let text = "path,rater,rating\nphotos/p000.png,ann,4\nphotos/p999.png,ann,2\nphotos/p001.jpg,ann,9\n";
    let (_, err) = import(&db, "a.csv", text, &["--aspect", "quality", "--scale", "1,5"], 2);
    assert!(err.contains("line 3: no picture") && err.contains("line 4: 9 is not on the scale"), "{err}");
    assert_eq!(db.number("select count(*) from rating").await, 0);
    let said = import(&db, "a.csv", text, &["--aspect", "quality", "--skip-unknown"], 0).0;
    assert!(said.contains("2 would") || said.contains("2 new"), "{said}");
    let (_, err) = import(&db, "b.csv", "sample,rater,rating\np00,ann,4\n", &["--aspect", "q", "--sweep", "rated"], 2);
    assert!(err.contains("no sample `p00`; did you mean `p000`?"), "{err}");
    assert!(import(&db, "c.csv", "sample,rater,rating\np000,ann,4\n", &["--aspect", "q"], 2).1.contains("--sweep"));
    assert!(import(&db, "d.csv", "who,what\na,b\n", &[], 2).1.contains("--map COLUMN=value"));
    assert!(import(&db, "e.csv", "path,rater,rating\nphotos/p000.png,ann,4\n", &[], 2).1.contains("no aspect"));
}

#[tokio::test(flavor = "multi_thread")]
async fn choices_come_in_json_and_agreement_is_computed() {
    let db = Database::new().await;
    let mut lines = String::new();
    for prompt in 0..6 {
        for (rater, flips) in [("ann", false), ("bob", prompt == 5), ("cid", false)] {
            let winner = if (prompt % 2 == 0) != flips { "ours" } else { "Sana" };
            let line = serde_json::json!({"model_a": "ours", "model_b": "Sana", "prompt": format!("p{prompt}"), "rater": rater, "winner": winner});
            lines.push_str(&format!("{line}\n"));
        }
    }
    import(&db, "choices.jsonl", &lines, &["--aspect", "Visual Aesthetics"], 0);
    let machine = lines
        .replace("\"bob\"", "\"judge-1\"")
        .lines()
        .filter(|it| it.contains("judge-1"))
        .fold(String::new(), |all, it| all + it + "\n");
    import(&db, "machine.jsonl", &machine, &["--aspect", "Visual Aesthetics", "--judge", "machine"], 0);
    let found: serde_json::Value = db.jobctl(["labels", "agreement", "--json"], 0).json();
    let choices = &found["choices"][0];
    assert_eq!((&choices["n"], &choices["n_pairs"], &choices["n_raters"]), (&18.into(), &6.into(), &3.into()));
    // One of eighteen answers differs from the two others to its pair.
    assert!(
        (choices["alpha"]["Ok"].as_f64().unwrap() - (1.0 - 17.0 * 2.0 * 2.0 / 2.0 / (2.0 * 8.0 * 10.0))).abs() < 1e-9,
        "{choices}"
    );
    assert!(choices["kappa"]["Ok"].as_f64().unwrap() < choices["alpha"]["Ok"].as_f64().unwrap());
    let machine = &found["human_machine"][0];
    assert_eq!((&machine["machine"], &machine["n"]), (&"judge-1".into(), &6.into()));
    assert!((machine["agree"]["Ok"].as_f64().unwrap() - 5.0 / 6.0).abs() < 1e-12);
    assert!(db.jobctl(["labels", "agreement"], 0).out.contains("PEOPLE AND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blind_sheet_says_nothing_of_sources_and_comes_back() {
    let db = Database::new().await;
    let sweep = finished(&db).await;
    let out = db.home.path().join("sheet");
    let template = |out: &Path, arguments: &[&str], status: i32| {
        db.jobctl(
            [&["labels", "template", "rated", "--out", out.to_str().unwrap(), "--seed", "5"], arguments].concat(),
            status,
        )
    };
    template(
        &out,
        &["--crop", "32", "--crops", "2", "--aspect", "quality,sharpness", "--source", "photos,photos blur sigma=4"],
        0,
    );
    let sheet = fs::read_to_string(out.join("sheet.csv")).unwrap();
    assert_eq!(sheet.lines().count(), 1 + 4 * 2 * 2 * 2);
    assert!(!sheet.contains("photos") && !sheet.contains("p000"), "{sheet}");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1 + 16);
    let image =
        jobctl::image::files::read(&out.join(sheet.lines().nth(1).unwrap().split(',').nth(1).unwrap()), 1 << 20)
            .unwrap()
            .0;
    assert_eq!((image.width, image.height), (32, 32));
    // Another folder of the same seed is the same sheet; a sheet is not overwritten.
    let again = db.home.path().join("again");
    template(
        &again,
        &["--crop", "32", "--crops", "2", "--aspect", "quality,sharpness", "--source", "photos,photos blur sigma=4"],
        0,
    );
    assert_eq!(fs::read_to_string(again.join("sheet.csv")).unwrap(), sheet);
    assert!(template(&out, &[], 2).err.contains("is not overwritten"));
    assert!(template(&db.home.path().join("x"), &["--source", "nobody"], 2).err.contains("no source `nobody`"));

    let filled: Vec<String> = sheet
        .lines()
        .enumerate()
        .map(|(idx, it)| if idx == 0 { it.to_owned() } else { it.replace(",,,", ",ann,3,") })
        .collect();
    let sheet_path = out.join("sheet.csv");
    fs::write(&sheet_path, filled.join("\n")).unwrap();
    let key = db.home.path().join("sheet.key.jsonl");
    let words = ["labels", "import", sheet_path.to_str().unwrap(), "--scale", "1,5", "--json"];
    assert!(db.jobctl(words, 2).err.contains("--key FILE"));
    let said = db.jobctl([&words[..], &["--key", key.to_str().unwrap()]].concat(), 0).out;
    assert!(said.contains("\"new\":32"), "{said}");
    let labels = of_sweep(&db.pool, sweep, None).await.unwrap();
    assert!(
        labels.ratings.iter().all(|it| it.label.area.is_some_and(|it| it.width == 32)) && labels.ratings.len() == 32
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_sheet_turns_answers_back_to_the_pair() {
    let db = Database::new().await;
    let sweep = finished(&db).await;
    let out = db.home.path().join("pairs");
    let sources = "photos,photos blur sigma=4";
    db.jobctl(
        [
            "labels",
            "template",
            "rated",
            "--out",
            out.to_str().unwrap(),
            "--form",
            "pairs",
            "--source",
            sources,
            "--seed",
            "3",
        ],
        0,
    );
    let sheet = fs::read_to_string(out.join("sheet.csv")).unwrap();
    // Whoever fills it in always finds the sharper one: the one whose file is larger.
    let size = |name: &str| fs::metadata(out.join(name)).unwrap().len();
    let mut filled = String::new();
    for (idx, line) in sheet.lines().enumerate() {
        let cells: Vec<&str> = line.split(',').collect();
        let choice = if idx > 0 && size(cells[1]) > size(cells[2]) { "first" } else { "second" };
        filled += &if idx == 0 {
            format!("{line}\n")
        } else {
            format!("{},{},{},{},ann,{choice},\n", cells[0], cells[1], cells[2], cells[3])
        };
    }
    let path = out.join("sheet.csv");
    fs::write(&path, filled).unwrap();
    let key = db.home.path().join("pairs.key.jsonl");
    db.jobctl(["labels", "import", path.to_str().unwrap(), "--key", key.to_str().unwrap()], 0);
    let labels = of_sweep(&db.pool, sweep, None).await.unwrap();
    assert_eq!(labels.verdicts.len(), 4);
    let sharp = "select count(*) from verdict_history where (first = 'photos' and choice = 'first') or (second = 'photos' and choice = 'second')";
    assert_eq!(db.number(sharp).await, 4);
}
