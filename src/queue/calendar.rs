//! When a schedule comes due: cron lines read in a time zone.
//!
//! Days on which clocks change follow the rules that croner documents, which are Vixie cron's: a line with a fixed
//! time that does not exist that day comes due at the first moment after the gap, one that exists twice comes due the
//! first time only; a line with a wildcard hour follows the elapsed time.

use anyhow::{Context, bail, ensure};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use time::OffsetDateTime;

/// The most firings that are counted or made at a time.
pub const MOST_AT_ONCE: usize = 1000;

/// A cron line in a time zone.
#[derive(Clone, Debug)]
pub struct Calendar {
    cron: Cron,
    zone: TimeZone,
}

impl Calendar {
    /// Reads `cron` (five fields: minute, hour, day of the month, month, day of the week; or `@daily` and its like) in
    /// `zone`, such as `Europe/Berlin`.
    ///
    /// # Errors
    /// Text that is no cron line, a zone that nobody knows; both say what would be right.
    pub fn parse(cron: &str, zone: &str) -> anyhow::Result<Self> {
        let zone = read_zone(zone)?;
        let n_fields = cron.split_whitespace().count();
        let is_nickname = cron.trim_start().starts_with('@');
        ensure!(
            is_nickname || n_fields == 5,
            "`{cron}` has {n_fields} fields, not 5: minute, hour, day of the month, month, day of the week; \
             `0 3 * * *` is every day at 3:00, `*/15 9-17 * * MON-FRI` every quarter of an office hour"
        );
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let read =
            parser.parse(cron).map_err(|error| anyhow::anyhow!("`{cron}` is no cron line: {}", plain(&error)))?;
        let calendar = Self { cron: read, zone };
        // A date that no year has, such as 30 February, is found out when it is looked for.
        if calendar.next(Timestamp::from_second(1_700_000_000).expect("it is in range")).is_none() {
            bail!("`{cron}` never comes: no year has such a day");
        }
        Ok(calendar)
    }

    /// The first time after `after`; none if none comes.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after: Zoned = after.to_zoned(self.zone.clone());
        self.cron.find_next_occurrence(&after, false).ok().map(|it| it.timestamp())
    }

    /// All times after `after` up to `until`, at most [`MOST_AT_ONCE`] of them: the first ones.
    pub fn between(&self, after: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let mut times = Vec::new();
        let mut last = after;
        while let Some(next) = self.next(last)
            && next <= until
            && times.len() < MOST_AT_ONCE
        {
            times.push(next);
            last = next;
        }
        times
    }

    /// The last time up to `until`, if it is not before `from`.
    pub fn last(&self, from: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let until = until.to_zoned(self.zone.clone());
        let last = self.cron.find_previous_occurrence(&until, true).ok()?.timestamp();
        (last >= from).then_some(last)
    }

    /// A moment as the zone's clocks show it.
    pub fn local(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%a %Y-%m-%d %H:%M %Z").to_string()
    }

    /// What the line means, in English.
    pub fn describe(&self) -> String {
        self.cron.describe()
    }
}

fn plain(error: &croner::errors::CronError) -> String {
    let text = error.to_string();
    text.trim_end_matches('.').to_owned()
}

fn read_zone(name: &str) -> anyhow::Result<TimeZone> {
    let database = jiff::tz::db();
    let error = match TimeZone::get(name) {
        Ok(zone) => return Ok(zone),
        Err(error) => error,
    };
    let known: Vec<String> = database.available().map(|it| it.as_str().to_owned()).collect();
    let lower = name.to_lowercase();
    // `Berlin` is meant as a city; anything else as a misspelling.
    let city = known.iter().find(|it| it.to_lowercase().rsplit('/').next() == Some(lower.as_str()));
    let near = known
        .iter()
        .map(|it| (strsim::damerau_levenshtein(&it.to_lowercase(), &lower), it))
        .min_by_key(|it| it.0)
        .filter(|it| it.0 <= 3)
        .map(|it| it.1);
    match city.or(near) {
        Some(meant) => bail!("there is no time zone `{name}`; is `{meant}` meant?"),
        None => {
            Err(error).with_context(|| format!("there is no time zone `{name}`; zones are named like Europe/Berlin"))
        }
    }
}

/// The database's moment as jiff has it.
pub fn timestamp(at: OffsetDateTime) -> anyhow::Result<Timestamp> {
    Timestamp::from_nanosecond(at.unix_timestamp_nanos()).context("a moment out of range")
}

/// A moment as the database takes it.
pub fn moment(at: Timestamp) -> anyhow::Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(at.as_nanosecond()).context("a moment out of range")
}
