//! Definitions: what is read, and what is said of those that are wrong.

use std::time::Duration;

use jobctl::report::definition::{Attach, Chart, Definition, Pattern, Table, Take, When};

use crate::support::diagnosed::diagnosed;
use crate::support::root;

#[test]
fn every_key_is_read() {
    let text = r#"
        name = "all-keys"
        title = "All of it"
        [sweeps]
        names = ["nightly-*", "vae"]
        take = "all"
        window = "2weeks"
        [compare]
        models = ["Sana*"]
        baseline = "Sana"
        metrics = ["glcm_score", "ssim:*"]
        [show]
        tables = ["means", "changes"]
        charts = "means"
        [[alarm]]
        metric = "psnr"
        [[alarm]]
        metric = ["nmse", "psnr"]
        model = "Sana*"
        when = "changed"
        threshold = 0.5
        relative = 1e-2
        [history]
        nights = 30
        level = 0.99
        [mail]
        to = ["Team <team@example.org>", "me@example.org"]
        from = "jobctl@example.org"
        subject = "{date}: {verdict}"
        only_on_regression = true
        report = "link"
        link = "https://example.org/{run}/report.html"
        max_mb = 2.5
    "#;
    let read = Definition::parse(text, "t.toml").unwrap_or_else(|it| panic!("{it}"));
    assert_eq!((read.name.as_str(), read.title.as_str()), ("all-keys", "All of it"));
    assert_eq!(read.sweeps.names, [Pattern::new("nightly-*"), Pattern::new("vae")]);
    assert_eq!((read.sweeps.take, read.sweeps.window), (Take::All, Some(Duration::from_secs(14 * 86_400))));
    assert!(read.compare.takes("x", Some("Sana-1.6B")) && !read.compare.takes("x", None));
    assert!(read.compare.takes_metric("ssim", "skimage") && !read.compare.takes_metric("psnr", "x"));
    assert_eq!(read.show.tables, [Table::Means, Table::Changes]);
    assert_eq!(read.show.charts, [Chart::Means]);
    assert_eq!((read.alarms[0].when, read.alarms[0].threshold), (When::Worse, 0.0));
    assert_eq!((read.alarms[1].metrics.len(), read.alarms[1].when), (2, When::Changed));
    assert_eq!((read.alarms[1].threshold, read.alarms[1].relative), (0.5, 0.01));
    assert_eq!((read.history.nights, read.history.level), (30, 0.99));
    let mail = read.mail.unwrap();
    assert_eq!(
        mail.to.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["Team <team@example.org>", "me@example.org"]
    );
    assert!(mail.only_on_regression);
    assert_eq!(mail.report, Attach::Linked("https://example.org/{run}/report.html".to_owned()));
    assert_eq!(mail.max_bytes, 2_500_000);
}

#[test]
fn what_is_left_out_has_a_default() {
    let read = super::definition("");
    assert_eq!((read.sweeps.take, read.sweeps.window), (Take::Latest, None));
    assert!(read.compare.takes("anything", None) && read.compare.takes_metric("anything", "at all"));
    // Without a baseline there is nothing to show against it.
    assert_eq!(read.show.tables, [Table::Changes, Table::Means]);
    assert!(read.mail.is_none() && read.alarms.is_empty());
    assert_eq!((read.history.nights, read.history.level), (14, 0.95));
}

#[test]
fn the_shipped_definitions_are_right() {
    let text = std::fs::read_to_string(root().join("reports/nightly.toml")).unwrap();
    let read = Definition::parse(&text, "nightly.toml").unwrap_or_else(|it| panic!("{it}"));
    assert!(read.mail.is_some() && read.alarms.len() == 3 && read.show.tables.contains(&Table::Baseline));
    for name in &read.sweeps.names {
        let sweeps = root().join("jobs").join(format!("{}.toml", name.text()));
        assert!(sweeps.exists(), "{} is no sweep of jobs/", name.text());
    }
}

#[test]
fn every_mistake_is_diagnosed_with_its_place() {
    diagnosed("tests/bad_reports", 4, Definition::parse);
}
