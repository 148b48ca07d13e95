//! Cron lines in time zones, on the days on which clocks change.

use jiff::Timestamp;
use jobctl::queue::calendar::{Calendar, MOST_AT_ONCE};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The times of a line in a zone after one moment up to another, as that zone's clocks show them.
#[track_caller]
fn check(cron: &str, zone: &str, from: &str, until: &str, expected: &[&str]) {
    let calendar = Calendar::parse(cron, zone).unwrap();
    let times: Vec<String> = calendar.between(at(from), at(until)).into_iter().map(|it| it.to_string()).collect();
    assert_eq!(times, expected, "{cron} in {zone}");
}

#[test]
fn a_time_that_does_not_exist_comes_once_right_after_the_gap() {
    // Berlin, 29 March 2026: 2:00 becomes 3:00.
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-03-27T12:00:00Z",
        "2026-03-30T12:00:00Z",
        &["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
    );
    // New York, 8 March 2026: 2:00 becomes 3:00.
    check(
        "15 2 * * *",
        "America/New_York",
        "2026-03-07T00:00:00Z",
        "2026-03-09T12:00:00Z",
        &["2026-03-07T07:15:00Z", "2026-03-08T07:00:00Z", "2026-03-09T06:15:00Z"],
    );
    // Lord Howe, 4 October 2026: 2:00 becomes 2:30.
    check(
        "10 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-02T18:00:00Z",
        "2026-10-05T00:00:00Z",
        &["2026-10-03T15:30:00Z", "2026-10-04T15:10:00Z"],
    );
}

#[test]
fn a_time_that_exists_twice_comes_once() {
    // Berlin, 25 October 2026: 3:00 becomes 2:00; the first 2:30 is at 0:30 UTC.
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-24T12:00:00Z",
        "2026-10-26T12:00:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
    );
    // New York, 1 November 2026: 2:00 becomes 1:00.
    check(
        "30 1 * * *",
        "America/New_York",
        "2026-10-31T12:00:00Z",
        "2026-11-02T12:00:00Z",
        &["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"],
    );
    // Lord Howe, 5 April 2026: 2:00 becomes 1:30.
    check(
        "45 1 * * *",
        "Australia/Lord_Howe",
        "2026-04-04T00:00:00Z",
        "2026-04-06T00:00:00Z",
        &["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"],
    );
    // Whoever looks between the two finds the next day's, not the second.
    check("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26T12:00:00Z", &["2026-10-26T01:30:00Z"]);
}

#[test]
fn every_hour_means_every_hour_that_passes() {
    for (zone, from, until) in [
        ("Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"),
        ("Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z"),
        ("America/New_York", "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"),
    ] {
        let calendar = Calendar::parse("0 * * * *", zone).unwrap();
        let times = calendar.between(at(from), at(until));
        assert_eq!(times.len(), 24, "{zone}");
        assert!(times.windows(2).all(|it| it[1].as_second() - it[0].as_second() == 3600), "{zone}: {times:?}");
    }
}

#[test]
fn going_back_finds_what_going_forward_found() {
    for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"] {
        for cron in ["30 2 * * *", "0 3 * * MON-FRI", "*/20 * * * *", "15 1 1 * *", "0 0 29 2 *"] {
            let calendar = Calendar::parse(cron, zone).unwrap();
            let from = at("2026-02-20T00:00:00Z");
            let times = calendar.between(from, at("2028-03-01T00:00:00Z"));
            assert!(!times.is_empty() && times.len() <= MOST_AT_ONCE);
            assert!(times.windows(2).all(|it| it[0] < it[1]), "{cron} in {zone} repeats itself");
            for pair in times.windows(2).take(120) {
                let just_before = Timestamp::from_second(pair[1].as_second() - 1).unwrap();
                assert_eq!(calendar.last(from, just_before), Some(pair[0]), "{cron} in {zone}");
                assert_eq!(calendar.last(from, pair[1]), Some(pair[1]), "{cron} in {zone}");
            }
        }
    }
}

#[test]
fn a_wrong_line_or_zone_says_what_would_be_right() {
    for (cron, zone, said) in [
        ("0 3 * *", "UTC", "has 4 fields, not 5"),
        ("0 0 3 * * *", "UTC", "has 6 fields, not 5"),
        ("61 3 * * *", "UTC", "no cron line"),
        ("x 3 * * *", "UTC", "no cron line"),
        ("", "UTC", "has 0 fields"),
        ("0 0 30 2 *", "UTC", "never comes"),
        ("0 3 * * *", "Europe/Berln", "is `Europe/Berlin` meant"),
        ("0 3 * * *", "Berlin", "is `Europe/Berlin` meant"),
        ("0 3 * * *", "Middle-earth/Shire", "zones are named like"),
        ("@nightly", "UTC", "no cron line"),
    ] {
        let error = format!("{:#}", Calendar::parse(cron, zone).unwrap_err());
        assert!(error.contains(said), "`{cron}` in `{zone}`: {error}");
    }
    assert!(Calendar::parse("@daily", "UTC").is_ok());
}
