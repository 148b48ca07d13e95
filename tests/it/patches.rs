//! Rated parts of pictures: from a table, through jobs that score exactly them, to the correlation of metric and opinion.

use std::fs;
use std::path::Path;

use jobctl::image::{Rgb, files};
use jobctl::labels::Area;
use jobctl::metrics::{self, Subject};
use jobctl::report::view::{Basis, Report};
use jobctl::report::{self, Options, analyse};
use jobctl::stats::correlation::{kendall, pearson, spearman};
use jobctl::store::artifact::Artifacts;
use jobctl::store::findings::Findings;
use jobctl::store::read::findings;
use jobctl::sweep::Sweep;

use crate::support::database::Database;
use crate::support::pictures::{pictures_of, sweep};

const BLOCK: &str = "[[patches]]\nname = \"rated\"\nof = \"photos\"\nboxes = \"ratings.csv\"";
const SIDE: u32 = 96;

fn glcm(image: &Rgb, area: Area) -> f64 {
    let crop = image.crop(area.x, area.y, area.width, area.height);
    let metric = metrics::parse("glcm_score").unwrap();
    let subject = Subject { rgb: &crop, file_bytes: None, reference: None };
    metrics::evaluate(&metric[..1], &subject).pop().unwrap().value.unwrap()
}

/// A table of two raters' numbers for four patches of each picture, and what it comes to: score and mean rating by patch.
fn ratings(folder: &Path) -> (String, Vec<(f64, f64)>) {
    let mut text = "path,rater,rating,x,y,width,height\n".to_owned();
    let mut expected = Vec::new();
    for (idx, path) in pictures_of(folder, 5, 224, 208).iter().enumerate() {
        let (image, name) = (files::read(path, 1 << 24).unwrap().0, path.file_name().unwrap().to_str().unwrap());
        for nth in 0..4 {
            let area = Area { x: 32 * nth, y: 16 * nth + 8 * idx as u32, width: SIDE, height: SIDE };
            let score = glcm(&image, area);
            // People follow the score, but not quite.
            let opinion = 10.0 * score + f64::from((7 * nth + 5 * idx as u32) % 6);
            for (rater, off) in [("ann", 0.5), ("bob", -0.5)] {
                let value = opinion + off;
                text += &format!("photos/{name},{rater},{value:?},{},{},{SIDE},{SIDE}\n", area.x, area.y);
            }
            expected.push((score, opinion));
        }
    }
    // Of a whole picture: no patch.
    text += "photos/p000.png,ann,3,,,,\n";
    (text, expected)
}

async fn found(db: &Database) -> Findings {
    let artifacts = Artifacts::new(db.home.path().join("store"));
    let sweep = db.number("select max(id)::bigint from sweep").await;
    findings(&db.pool, &artifacts, sweep as i32).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_scored_on_the_rated_patches_and_correlate_with_their_ratings() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    let (text, expected) = ratings(&folder);
    let table = db.home.path().join("ratings.csv");
    fs::write(&table, text).unwrap();
    let path = sweep(&folder, "patched", BLOCK, &["glcm_score", "compression_ratio"]);
    db.jobctl(["run", path.to_str().unwrap()], 0);
    db.jobctl(["labels", "import", table.to_str().unwrap(), "--aspect", "quality"], 0);
    assert_eq!(db.number("select count(*) from rating where width = 96").await, 40);

    let findings = found(&db).await;
    let patches: Vec<usize> = (0..findings.images.len()).filter(|it| findings.images[*it].source == 1).collect();
    assert_eq!((findings.sources[1].name.as_str(), patches.len()), ("rated", 20));
    let report: Report = analyse(&findings);
    assert!(patches.iter().all(|it| report.images[*it].size == Some((SIDE, SIDE))));

    let opinions = report.opinions.as_ref().unwrap();
    assert!(opinions.unused.is_empty(), "{:?}", opinions.unused);
    let tables: Vec<_> = opinions.correlations.iter().map(|it| (it.patches, it.basis, it.rows[0].n)).collect();
    assert_eq!(tables, [(false, Basis::Ratings, 1), (true, Basis::Ratings, 20)]);
    let rows = &opinions.correlations[1].rows;
    let row = rows.iter().find(|it| report.metrics[it.metric].id.metric == "glcm_score").unwrap();
    let (x, y): (Vec<f64>, Vec<f64>) = expected.into_iter().unzip();
    let coefficients = &row.coefficients;
    for (ours, direct) in [
        (coefficients.srcc.value, spearman(&x, &y)),
        (coefficients.plcc.value, pearson(&x, &y)),
        (coefficients.krcc.value, kendall(&x, &y)),
    ] {
        assert!((ours.unwrap() - direct.unwrap()).abs() < 1e-12, "{ours:?} is not {direct:?}");
        assert!(direct.unwrap() < 0.999, "the ratings are not the scores themselves");
    }
    // Patches of one photograph are drawn together.
    assert!(row.clustered && coefficients.srcc.interval.is_some());

    let table = report.paper.iter().find(|it| it.number == 1).unwrap();
    let column = table.columns.iter().position(|it| it.metric == "srcc").unwrap();
    let ours = table.rows.iter().find(|it| it.ours.as_ref().is_some_and(|it| it.0 == "GLCM score")).unwrap();
    assert!((ours.values[column].unwrap().value - spearman(&x, &y).unwrap()).abs() < 1e-12);
    assert_eq!(ours.ours.as_ref().unwrap().1, "quality, 20 patches");
    let written = report::write(&findings, &db.home.path().join("out"), &Options::default()).unwrap();
    let page = fs::read_to_string(written.html).unwrap();
    assert!(page.contains("quality of patches, by people"), "the page tells patches from pictures");

    // From the highest score to the lowest, each with the mean of two ratings.
    let gallery = page.split("<section id=\"patches\"").nth(1).unwrap().split("</section>").next().unwrap();
    assert_eq!(gallery.matches("<figure>").count(), 8);
    let mut ranked: Vec<(f64, f64)> = x.iter().copied().zip(y.iter().copied()).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let places = [ranked.first(), ranked.last()]
        .map(|it| gallery.find(&format!("<span>quality, 2 raters</span><span>{:.2}</span>", it.unwrap().1)));
    assert!(places[0].unwrap() < places[1].unwrap(), "{gallery}");

    // The same sweep asks for nothing twice; other boxes are other pictures.
    let again: serde_json::Value =
        db.jobctl(["enqueue", path.to_str().unwrap(), "--json"], 0).out.lines().last().unwrap().parse().unwrap();
    assert_eq!(again["new"], serde_json::json!({}), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_sheet_says_which_patches_were_rated() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    pictures_of(&folder, 4, 224, 208);
    let path = sweep(&folder, "first", "", &["glcm_score"]);
    db.jobctl(["run", path.to_str().unwrap()], 0);
    let out = db.home.path().join("rate");
    db.jobctl(["labels", "template", "first", "--out", out.to_str().unwrap(), "--crop", "96", "--crops", "2"], 0);
    let sheet = fs::read_to_string(out.join("sheet.csv")).unwrap();
    let filled: Vec<String> = sheet
        .lines()
        .enumerate()
        .map(|(idx, it)| if idx == 0 { it.to_owned() } else { it.replace(",,,", &format!(",ann,{},", idx % 5)) })
        .collect();
    fs::write(out.join("sheet.csv"), filled.join("\n")).unwrap();
    let sheet = out.join("sheet.csv");
    let key = db.home.path().join("rate.key.jsonl");
    db.jobctl(["labels", "import", sheet.to_str().unwrap(), "--key", key.to_str().unwrap()], 0);
    let unused = analyse(&found(&db).await).opinions.unwrap().unused;
    assert!(matches!(unused.as_slice(), [(8, why)] if why.contains("[[patches]]")), "{unused:?}");

    let path = sweep(&folder, "second", &BLOCK.replace("ratings.csv", "rate.key.jsonl"), &["glcm_score"]);
    db.jobctl(["run", path.to_str().unwrap()], 0);
    let opinions = analyse(&found(&db).await).opinions.unwrap();
    assert!(opinions.unused.is_empty(), "{:?}", opinions.unused);
    assert_eq!((opinions.correlations[0].patches, opinions.correlations[0].rows[0].n), (true, 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_patches_that_fit_no_picture_are_refused() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    pictures_of(&folder, 2, 224, 208);
    let path = sweep(&folder, "wrong", BLOCK, &["glcm_score"]);
    let enqueue = |table: Option<&str>| {
        if let Some(table) = table {
            fs::write(db.home.path().join("ratings.csv"), table).unwrap();
        }
        db.jobctl(["enqueue", path.to_str().unwrap()], 1).err
    };
    for (table, word) in [
        (None, "patches `rated`: read "),
        (Some("sample,x,y,width\np000,0,0,96\n"), "there is no column `height`"),
        (Some("sample,x,y,width,height\np000,0,,96,96\n"), "line 2: a patch needs x, y, width and height"),
        (Some("sample,x,y,width,height\np00,0,0,96,96\n"), "`photos` has no sample `p00`; did you mean `p00"),
        (Some("sample,x,y,width,height\np001,129,0,96,96\n"), "96×96 pixels at 129, 0 lie outside of `p001`"),
        (Some("sample,x,y,width,height\np001,,,,\n"), "no row has x, y, width and height"),
    ] {
        let error = enqueue(table);
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(db.number("select count(*) from sweep").await, 0);
}

#[test]
fn a_block_of_patches_says_what_is_wrong_with_it() {
    let parse = |block: &str| {
        let text = format!(
            "name = \"t\"\n[[images]]\nname = \"photos\"\npath = \"p\"\n{block}\n[evaluate]\nmetrics = [\"glcm_score\"]\n"
        );
        Sweep::parse(&text, "t.toml").map_err(|it| it.to_string())
    };
    assert_eq!(parse(BLOCK).unwrap().patches[0].of, "photos");
    for (block, word) in [
        ("[[patches]]\nname = \"a\"\nof = \"photso\"\nboxes = \"b\"", "did you mean `photos`"),
        ("[[patches]]\nname = \"a\"\nof = \"photos\"", "[[patches]] has no `boxes`"),
        ("[[patches]]\nname = \"photos\"\nof = \"photos\"\nboxes = \"b\"", "two blocks are called `photos`"),
        (&format!("{BLOCK}\nside = 3"), "`side` is no key of [[patches]]"),
        (&format!("{BLOCK}\n[[damage]]\nof = \"rated\"\nkind = \"blur\"\nsigma = 1"), "is a [[patches]] block"),
    ] {
        let error = parse(block).unwrap_err();
        assert!(error.contains(word), "{error}");
    }
}
