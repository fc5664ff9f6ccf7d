//! The fields of a CronJob's spec, and the rules of its time zone.

use std::fs;

use super::{choose, flag, number, whole};
use crate::manifest::report::Report;
use crate::manifest::tree::{Node, Path, quote};
use crate::manifest::workload;
use crate::pod::batch::schedule::{Schedule, Zone};
use crate::pod::batch::spec::{Concurrency, Cron};

const FIELDS: &[&str] = &[
    "schedule",
    "timeZone",
    "concurrencyPolicy",
    "suspend",
    "startingDeadlineSeconds",
    "successfulJobsHistoryLimit",
    "failedJobsHistoryLimit",
    "jobTemplate",
];

const POLICIES: &[(&str, Concurrency)] =
    &[("Allow", Concurrency::Allow), ("Forbid", Concurrency::Forbid), ("Replace", Concurrency::Replace)];

/// Where the rules of time zones are, on a machine that has them (the package tzdata).
const ZONES: &str = "/usr/share/zoneinfo";
/// A zone's file has a few thousand bytes.
const LARGEST: u64 = 64 << 10;

/// The CronJob without its name and its Job.
pub(super) fn read(report: &mut Report<'_>, spec: &Node) -> Cron {
    let path = Path::of("spec");
    workload::strangers(report, spec, FIELDS, &path);
    let keep = |limit: Option<u32>, without: usize| limit.map_or(without, |limit| limit as usize);
    Cron {
        zone: zone(report, spec, &path.key("timeZone")),
        concurrency: choose(report, spec, &path, "concurrencyPolicy", POLICIES).unwrap_or_default(),
        suspend: flag(report, spec, &path, "suspend"),
        late: whole(report, spec, &path, "startingDeadlineSeconds", i32::MAX as u64)
            .and_then(|seconds| i64::try_from(seconds).ok()),
        keep_succeeded: keep(number(report, spec, &path, "successfulJobsHistoryLimit"), 3),
        keep_failed: keep(number(report, spec, &path, "failedJobsHistoryLimit"), 1),
        schedule: schedule(report, spec, &path.key("schedule")),
        text: spec.get("schedule").and_then(Node::text).unwrap_or_default().to_owned(),
        ..Cron::default()
    }
}

fn schedule(report: &mut Report<'_>, spec: &Node, path: &Path) -> Schedule {
    let Some(node) = spec.get("schedule") else {
        report.refuse(
            path,
            "is missing: write five fields (minute hour day month weekday), or a word such as @daily",
        );
        return Schedule::default();
    };
    let Some(text) = node.text() else {
        report.refuse(path, format!("{} is not text: put quotes around it", node.brief()));
        return Schedule::default();
    };
    Schedule::parse(text).unwrap_or_else(|why| {
        let cure = "write five fields (minute hour day month weekday), or a word such as @daily";
        report.refuse(path, format!("{} is no schedule: {why}: {cure}", quote(text)));
        Schedule::default()
    })
}

fn zone(report: &mut Report<'_>, spec: &Node, path: &Path) -> Zone {
    let Some(node) = spec.get("timeZone") else { return Zone::default() };
    let found = match node.text() {
        None | Some("") => {
            Err(format!("{} is no name of a time zone: write one, or leave it out for UTC", node.brief()))
        }
        Some(name @ ("UTC" | "Etc/UTC")) => Ok(Zone::utc(name)),
        Some("Local") => Err("\"Local\" is no name of a time zone: write one such as Europe/Berlin".into()),
        Some(name) => named(ZONES, name),
    };
    found.unwrap_or_else(|why| {
        report.refuse(path, why);
        Zone::default()
    })
}

pub(super) fn named(folder: &str, name: &str) -> Result<Zone, String> {
    let plain = |part: &str| {
        let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+');
        !part.is_empty() && part.chars().all(letter)
    };
    if !name.split('/').all(plain) {
        return Err(format!("{} is no name of a time zone: write one such as Europe/Berlin", quote(name)));
    }
    let file = format!("{folder}/{name}");
    let trouble = |why: String| {
        format!("{} is not known here: {file}: {why}: install tzdata, or leave it out for UTC", quote(name))
    };
    let look = fs::metadata(&file).map_err(|why| trouble(why.to_string()))?;
    if !look.is_file() || look.len() > LARGEST {
        return Err(trouble("is no time zone".into()));
    }
    let bytes = fs::read(&file).map_err(|why| trouble(why.to_string()))?;
    Zone::new(name, bytes).map_err(trouble)
}
