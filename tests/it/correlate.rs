//! `jobctl correlate` as scripts see it, on published tables of opinions.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::process::Printed;
use crate::support::{golden, golden_json, jobctl};

fn run(table: &Path, arguments: &[&str], status: i32) -> Printed {
    let mut command = jobctl();
    Printed::of(command.arg("correlate").arg(table).args(arguments).output().unwrap(), status)
}

fn lines(table: &Path, arguments: &[&str]) -> Vec<Value> {
    let printed = run(table, &[arguments, &["--json", "--samples", "100"]].concat(), 0);
    printed.out.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

/// Coefficients and p-values are scipy's, the interval of Pearson's r too; every interval holds its value.
#[track_caller]
fn check(line: &Value, expected: &Value) {
    assert_eq!(line["n"], expected["n"], "{line}");
    for name in ["srcc", "plcc", "plcc_fit", "krcc"] {
        let (ours, theirs) = (&line[name], expected[name].as_array().unwrap());
        let of = |key: &str| ours[key].as_f64().unwrap_or_else(|| panic!("{name} {key}: {line}"));
        let near = |ours: f64, theirs: &Value| {
            let theirs = theirs.as_f64().unwrap();
            assert!((ours - theirs).abs() < 1e-9, "{name} of {}: {ours} is not {theirs}", line["metric"]);
        };
        if name == "plcc_fit" {
            // On a flat bottom scipy stops a little short: ours may be better, and by no more than this.
            let gain = of("value") - theirs[0].as_f64().unwrap();
            assert!((-1e-9..1e-8).contains(&gain), "{gain} in {line}");
        } else {
            near(of("value"), &theirs[0]);
        }
        near(of("p"), &theirs[1]);
        if name == "plcc" {
            near(of("low"), &theirs[2]);
            near(of("high"), &theirs[3]);
        }
        assert!(of("low") < of("value") && of("value") < of("high"), "{line}");
    }
}

#[test]
fn the_published_spearman_of_tifa_is_pearsons_r() {
    let expected = golden_json("opinions/expected.json");
    let found = lines(
        &golden("opinions/tifa.csv"),
        &["--metric", "clipscore_vitb32,meteor,bleu,rouge,spice,tifa_mplug-large", "--human", "human_avg"],
    );
    assert_eq!(found.len(), 6);
    for line in &found {
        assert_eq!((&line["human"], &line["group"]), (&"human_avg".into(), &Value::Null));
        check(line, &expected["tifa"][line["metric"].as_str().unwrap()]);
    }
    // As the authors of TIFA print them.
    for (place, r, tau) in [(0, "0.3318181645", "0.2314458979"), (5, "0.5967201060", "0.4717164649")] {
        let of = |name: &str| format!("{:.10}", found[place][name]["value"].as_f64().unwrap());
        assert_eq!((of("plcc").as_str(), of("krcc").as_str()), (r, tau));
        assert_ne!(of("srcc"), r);
    }
}

#[test]
fn other_raters_of_the_same_images_agree_with_the_first() {
    let expected = golden_json("opinions/expected.json");
    let found = lines(&golden("opinions/tifa.csv"), &["--metric", "human_avg", "--human", "dsg_mean"]);
    check(&found[0], &expected["dsg"]["human_avg"]);
    let found = lines(&golden("opinions/agiqa3k.csv"), &["--metric", "mos_align", "--human", "mos_quality"]);
    check(&found[0], &expected["agiqa3k"]["mos_align"]);
}

#[test]
fn groups_have_a_line_each_and_are_pooled_by_fishers_z() {
    let expected = golden_json("opinions/expected.json");
    let arguments = ["--metric", "meteor", "--human", "human_avg", "--group", "model"];
    let found = lines(&golden("opinions/tifa.csv"), &arguments);
    assert_eq!(found.len(), 6);
    for line in &found[..5] {
        check(line, &expected["tifa_by_model"][line["group"].as_str().unwrap()]);
    }
    let pooled = &found[5];
    assert_eq!((&pooled["group"], &pooled["n"]), (&"*".into(), &800.into()));
    for name in ["srcc", "plcc", "plcc_fit", "krcc"] {
        let value = |it: &Value| it[name]["value"].as_f64().unwrap();
        let mean = found[..5].iter().map(|it| value(it).atanh()).sum::<f64>() / 5.0;
        assert!((value(pooled) - mean.tanh()).abs() < 1e-12);
        assert!(pooled[name]["low"].as_f64().unwrap() < value(pooled) && pooled[name]["p"].as_f64().unwrap() < 0.05);
    }
}

#[test]
fn clusters_widen_intervals_and_another_metric_is_tested_against() {
    let table = golden("opinions/tifa.csv");
    let width = |line: &Value, name: &str| line[name]["high"].as_f64().unwrap() - line[name]["low"].as_f64().unwrap();
    let alone = lines(&table, &["--metric", "spice", "--human", "human_avg"]);
    let arguments = ["--metric", "spice", "--human", "human_avg", "--cluster", "text", "--against", "bleu"];
    let found = lines(&table, &arguments);
    assert!(width(&found[0], "plcc") > width(&alone[0], "plcc"));
    assert_eq!(found[0]["plcc"]["value"], alone[0]["plcc"]["value"]);
    let difference = &found[1];
    assert_eq!((&difference["against"], &difference["difference"]["plcc_meng_p"]), (&"bleu".into(), &Value::Null));
    let difference = &difference["difference"]["plcc"];
    assert!((difference["value"].as_f64().unwrap() - 0.144_713).abs() < 1e-4, "{difference}");
    let same = lines(&table, &["--metric", "bleu", "--human", "human_avg", "--against", "spice"]);
    assert!(same[1]["difference"]["plcc_meng_p"].as_f64().unwrap() < 1e-3);
}

#[test]
fn json_of_any_shape_is_the_same_table() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [(1.0, 2.0), (2.0, 1.0), (3.0, 5.0), (4.0, 3.0), (5.0, 8.0), (6.0, 5.0)];
    let objects: Vec<String> = rows.iter().map(|it| format!("{{\"m\": {}, \"h\": {}}}", it.0, it.1)).collect();
    let keyed: Vec<String> = objects.iter().enumerate().map(|(idx, it)| format!("\"k{idx}\": {it}")).collect();
    let csv: String = rows.iter().map(|it| format!("\"{}\";{}\n", it.0, it.1)).collect();
    let mut seen = Vec::new();
    for (name, text) in [
        ("a.json", format!("[{}]", objects.join(","))),
        ("b.json", format!("{{{}}}", keyed.join(","))),
        ("c.jsonl", objects.join("\n")),
        ("d.csv", format!("m;h\n{csv}")),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        seen.push(lines(&path, &["--metric", "m", "--human", "h"]));
    }
    assert!(seen.windows(2).all(|it| it[0] == it[1]), "{seen:?}");
    assert_eq!(seen[0][0]["n"], 6);
}

#[test]
fn rows_without_numbers_are_left_out_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    fs::write(&path, "m,h,c\n1,2,7\n,3,7\nNaN,1,7\n2,4,7\n3,,7\n4,5,7\n5,5,7\n7,9,7\n").unwrap();
    let printed = run(&path, &["--metric", "m,c", "--human", "h", "--json", "--samples", "100"], 0);
    assert!(printed.err.contains("m: 3 of 8 rows left out") && printed.err.contains("`h` (1)"), "{}", printed.err);
    let found: Vec<Value> = printed.out.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!(found[0]["n"], 5);
    // A constant is said as such, never as 0.
    assert_eq!(found[1]["srcc"]["value"], Value::Null);
    assert_eq!(found[1]["srcc"]["why"], "all values are equal");
    fs::write(&path, "m,h\n1,2\n2,1\n").unwrap();
    let found = lines(&path, &["--metric", "m", "--human", "h"]);
    assert!((found[0]["plcc"]["value"].as_f64().unwrap() + 1.0).abs() < 1e-12);
    assert_eq!((&found[0]["plcc"]["low"], &found[0]["plcc"]["p"]), (&Value::Null, &1.0.into()));
    assert_eq!(found[0]["plcc_fit"]["why"], "too few values");
}

#[test]
fn a_wrong_use_names_the_columns() {
    let table = golden("opinions/agiqa3k.csv");
    let said = run(&table, &["--metric", "mos_alignment", "--human", "mos_quality"], 2).err;
    assert!(said.contains("did you mean `mos_align`") && said.contains("the columns are: name, generator"), "{said}");
    let said = run(&table, &["--metric", "generator", "--human", "mos_quality"], 2).err;
    assert!(said.contains("line 2, column `generator`") && said.contains("is no number"), "{said}");
    assert!(run(Path::new("/nowhere.csv"), &["--metric", "a", "--human", "b"], 2).err.contains("/nowhere.csv"));
    let shown = run(&table, &["--metric", "mos_align", "--human", "mos_quality", "--samples", "100"], 0).out;
    assert!(shown.contains("SRCC") && shown.contains("mos_align") && shown.contains("seed 4096"), "{shown}");
}
