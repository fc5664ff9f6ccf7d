//! When a CronJob is due: the five fields, and the next and the latest moment that they name. Pure.
//!
//! Source: Kubernetes' controller reads them by robfig/cron v3's standard parser, and so does this. In the hour that a
//! daylight saving change leaves out nothing is due; in the one that it repeats, what is due is due twice.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::clock::span;

/// A checked schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schedule {
    Fields(Fields),
    /// `@every`: so many seconds after the last time.
    Every(i64),
}

/// One bit for each value that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Neither days nor weekdays are left open, so that either may fit.
    either: bool,
}

impl Default for Schedule {
    /// Each hour, for what is refused anyway.
    fn default() -> Schedule {
        Schedule::Every(3600)
    }
}

/// A field's name is told nowhere: its value is enough.
struct Bounds {
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds { low: 0, high: 59, names: &[] };
const HOURS: Bounds = Bounds { low: 0, high: 23, names: &[] };
const DAYS: Bounds = Bounds { low: 1, high: 31, names: &[] };
const MONTHS: Bounds = Bounds {
    low: 1,
    high: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAYS: Bounds =
    Bounds { low: 0, high: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// What the words stand for.
const WORDS: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// How far ahead a time is looked for: beyond the eight years that may lie between two 29ths of February.
const YEARS: i16 = 9;

impl Schedule {
    /// Err: what is wrong with it, in the parser's words that Kubernetes tells.
    pub fn parse(text: &str) -> Result<Schedule, String> {
        if text.contains("TZ=") {
            return Err("cannot use TZ or CRON_TZ in schedule, use timeZone field instead".into());
        }
        if text.is_empty() {
            return Err("empty spec string".into());
        }
        if let Some(span) = text.strip_prefix("@every ") {
            return every(span).ok_or_else(|| format!("failed to parse duration {text}"));
        }
        if text.starts_with('@') {
            let fields = WORDS.iter().find(|(word, _)| *word == text).map(|(_, fields)| *fields);
            return Schedule::parse(fields.ok_or_else(|| format!("unrecognized descriptor: {text}"))?);
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = words.as_slice() else {
            let found = words.len();
            return Err(format!("expected exactly 5 fields, found {found}: [{}]", words.join(" ")));
        };
        let (days, any_day) = field(days, &DAYS)?;
        let (weekdays, any_weekday) = field(weekdays, &WEEKDAYS)?;
        Ok(Schedule::Fields(Fields {
            minutes: field(minutes, &MINUTES)?.0,
            hours: field(hours, &HOURS)?.0,
            days,
            months: field(months, &MONTHS)?.0,
            weekdays,
            either: !any_day && !any_weekday,
        }))
    }

    /// The first time after this one, in seconds since the Unix epoch; None where there is none in the next years.
    pub fn next(&self, after: i64, zone: &Zone) -> Option<i64> {
        match self {
            Schedule::Every(seconds) => after.checked_add(*seconds),
            Schedule::Fields(fields) => fields.next(after, zone),
        }
    }

    /// The last time after `after` that is not after `until`, and how many there are in all; counted to just past
    /// `MANY`.
    pub fn latest(&self, after: i64, until: i64, zone: &Zone) -> Option<(i64, usize)> {
        let missed = |from: i64| {
            std::iter::successors(self.next(from, zone), |time| self.next(*time, zone))
                .take_while(|time| *time <= until)
        };
        let count = missed(after).take(MANY + 1).count();
        if let Schedule::Every(seconds) = self {
            let times = until.saturating_sub(after) / seconds;
            return (times > 0).then(|| (after + times * seconds, count));
        }
        // Looked for from near to far, so that a year's minutes are not walked through.
        let spans = [120, 7_200, 2 * 86_400, 70 * 86_400, 400 * 86_400, i64::MAX];
        let last = spans.iter().find_map(|span| missed(after.max(until.saturating_sub(*span))).last());
        last.map(|time| (time, count))
    }
}

/// More missed times than this are a sign of a wrong clock (the controller's number).
pub const MANY: usize = 100;

impl Fields {
    fn next(&self, after: i64, zone: &Zone) -> Option<i64> {
        let mut from = after.checked_add(1)?;
        let last = from.checked_add(i64::from(YEARS) * 366 * 86_400)?;
        // A span without a change of the clocks after the other: within one, local time is a sum.
        while from < last {
            let moment = Timestamp::from_second(from).ok()?;
            let offset = i64::from(zone.zone.to_offset(moment).seconds());
            let change = zone.zone.following(moment).next().map(|change| change.timestamp().as_second());
            let end = change.unwrap_or(last).min(last);
            if let Some(time) = self.local(from + offset, end + offset) {
                return Some(time - offset);
            }
            from = end.max(from + 1);
        }
        None
    }

    /// The first local time from `from` on and before `end`, both in seconds of local time.
    fn local(&self, from: i64, end: i64) -> Option<i64> {
        let mut day = from.div_euclid(86_400);
        let mut minute = (from.rem_euclid(86_400) + 59) / 60;
        let mut date = date(day)?;
        while day * 86_400 < end {
            if self.day(date)
                && let Some(found) = (minute..1440)
                    .find(|at| self.hours >> (at / 60) & 1 == 1 && self.minutes >> (at % 60) & 1 == 1)
            {
                let time = day * 86_400 + found * 60;
                return (time < end).then_some(time);
            }
            (day, minute, date) = (day + 1, 0, date.tomorrow().ok()?);
        }
        None
    }

    fn day(&self, date: Date) -> bool {
        let bit = |set: u64, value: i8| set >> value & 1 == 1;
        let day = bit(self.days, date.day());
        let weekday = bit(self.weekdays, date.weekday().to_sunday_zero_offset());
        bit(self.months, date.month()) && if self.either { day || weekday } else { day && weekday }
    }
}

/// Days since the Unix epoch to a date.
fn date(day: i64) -> Option<Date> {
    let epoch = Date::constant(1970, 1, 1);
    debug_assert_eq!(epoch.weekday(), Weekday::Thursday);
    epoch.checked_add(jiff::Span::new().try_days(day).ok()?).ok()
}

/// A list of ranges to bits, and whether it is left open (`*`).
fn field(text: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let (mut bits, mut any) = (0, false);
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (more, open) = range(part, bounds)?;
        (bits, any) = (bits | more, any || open);
    }
    Ok((bits, any))
}

/// `*`, `a`, `a-b`, each with or without `/step`.
fn range(text: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts.first().map(|range| range.split('-').collect()).unwrap_or_default();
    let first = ends.first().copied().unwrap_or_default();
    let open = matches!(first, "*" | "?");
    let (low, mut high) = match ends.as_slice() {
        _ if open => (bounds.low, bounds.high),
        [one] => (value(one, bounds)?, value(one, bounds)?),
        [low, high] => (value(low, bounds)?, value(high, bounds)?),
        _ => return Err(format!("too many hyphens: {text}")),
    };
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => {
            if ends.len() == 1 && !open {
                high = bounds.high;
            }
            number(step)?
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
    if low < bounds.low {
        return Err(format!("beginning of range ({low}) below minimum ({}): {text}", bounds.low));
    }
    if high > bounds.high {
        return Err(format!("end of range ({high}) above maximum ({}): {text}", bounds.high));
    }
    if low > high {
        return Err(format!("beginning of range ({low}) beyond end of range ({high}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    let bits = (low..=high).step_by(step as usize).fold(0, |bits, value| bits | 1 << value);
    Ok((bits, open && step == 1))
}

fn value(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let lower = text.to_lowercase();
    match bounds.names.iter().zip(bounds.low..).find(|(name, _)| **name == lower) {
        Some((_, value)) => Ok(value),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    let whole: i64 = text.parse().map_err(|_| format!("failed to parse int from {text}"))?;
    u32::try_from(whole).map_err(|_| format!("negative number ({whole}) not allowed: {text}"))
}

/// Go's duration: `1h30m`; None where it is none. At least a second, and no fraction of one.
fn every(text: &str) -> Option<Schedule> {
    let span = span(text).filter(|span| !span.is_zero())?;
    let seconds = i64::try_from(span.as_secs()).ok().filter(|seconds| *seconds < LONGEST)?;
    Some(Schedule::Every(seconds.max(1)))
}

/// Three centuries, as Go's own durations.
const LONGEST: i64 = 10_000_000_000;

/// A time zone by its IANA name, with its rules as they were read.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Rules", into = "Rules")]
pub struct Zone {
    rules: Rules,
    zone: TimeZone,
}

/// Its name, and its file (TZif); none for UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Rules(String, Option<Arc<[u8]>>);

impl Zone {
    /// Err: they are not the rules of a zone (RFC 9636).
    pub fn new(name: &str, file: Vec<u8>) -> Result<Zone, String> {
        Zone::try_from(Rules(name.into(), Some(file.into())))
    }

    /// UTC by one of its names.
    pub fn utc(name: &str) -> Zone {
        Zone { rules: Rules(name.into(), None), zone: TimeZone::UTC }
    }

    /// Empty where none was named, which is UTC.
    pub fn name(&self) -> &str {
        &self.rules.0
    }
}

impl Default for Zone {
    fn default() -> Zone {
        Zone::utc("")
    }
}

impl TryFrom<Rules> for Zone {
    type Error = String;
    fn try_from(rules: Rules) -> Result<Zone, String> {
        let zone = match &rules.1 {
            None => TimeZone::UTC,
            Some(file) => TimeZone::tzif(&rules.0, file).map_err(|why| why.to_string())?,
        };
        Ok(Zone { rules, zone })
    }
}

impl From<Zone> for Rules {
    fn from(zone: Zone) -> Rules {
        zone.rules
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Zone) -> bool {
        self.rules == other.rules
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

#[cfg(test)]
pub(crate) mod tests;
