//! Jobs and CronJobs as documents: what they say, and what makes one another. Refusals: `tests/manifests/refused`.

use std::time::Duration;

use super::cron;
use crate::manifest::{Parsed, parse};
use crate::pod::batch::schedule::tests::file;
use crate::pod::batch::spec::{Concurrency, Cron, Job};

fn read(text: &str) -> Parsed {
    let parsed = parse(text.as_bytes(), "j.yaml", "/m/j.yaml", "n");
    assert!(!parsed.problems.iter().any(|problem| problem.refused), "{text}: {:?}", parsed.problems);
    parsed
}

fn text(kind: &str, spec: &str) -> String {
    format!("apiVersion: batch/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{{spec}}}\n")
}

const TEMPLATE: &str = "template: {spec: {restartPolicy: Never, containers: [{name: c, image: x}]}}";

fn job(spec: &str) -> Job {
    read(&text("Job", &format!("{spec}{TEMPLATE}"))).jobs.remove(0)
}

fn cron_job(spec: &str) -> Cron {
    read(&text("CronJob", &format!("schedule: '@hourly', {spec}jobTemplate: {{spec: {{{TEMPLATE}}}}}")))
        .crons
        .remove(0)
}

#[test]
fn what_is_left_out_is_as_in_kubernetes() {
    let all = job("");
    assert_eq!((all.parallelism, all.completions, all.backoff_limit), (1, Some(1), 6));
    assert_eq!((all.deadline, all.ttl, all.suspend, all.indexed), (None, None, false, false));
    assert_eq!((all.full_name().as_str(), all.origin.as_str()), ("default/a", "j.yaml"));
    for (spec, parallelism, completions, limit) in [
        ("completions: 5, ", 1, Some(5), 6),
        ("parallelism: 5, ", 5, None, 6),
        ("parallelism: 0, completions: 0, ", 0, Some(0), 6),
        ("completionMode: Indexed, completions: 2, backoffLimitPerIndex: 1, ", 1, Some(2), i32::MAX as u32),
        (
            "completionMode: Indexed, completions: 2, backoffLimitPerIndex: 1, backoffLimit: 3, ",
            1,
            Some(2),
            3,
        ),
    ] {
        let job = job(spec);
        assert_eq!(
            (job.parallelism, job.completions, job.backoff_limit),
            (parallelism, completions, limit),
            "{spec}"
        );
    }
    let given = job("activeDeadlineSeconds: 5, ttlSecondsAfterFinished: 0, suspend: true, ");
    assert_eq!(given.deadline, Some(Duration::from_secs(5)));
    assert_eq!((given.ttl, given.suspend), (Some(Duration::ZERO), true));

    let all = cron_job("");
    assert_eq!((all.keep_succeeded, all.keep_failed, all.late, all.suspend), (3, 1, None, false));
    assert_eq!((all.concurrency, all.zone.name()), (Concurrency::Allow, ""));
    let given =
        cron_job("concurrencyPolicy: Replace, startingDeadlineSeconds: 9, failedJobsHistoryLimit: 0, ");
    assert_eq!((given.concurrency, given.late, given.keep_failed), (Concurrency::Replace, Some(9), 0));
}

#[test]
fn only_what_would_run_otherwise_makes_another_job() {
    let uid = |spec: &str| job(spec).uid;
    let first = uid("");
    assert_eq!(first.len(), 32);
    for same in ["parallelism: 1, ", "suspend: true, ", "ttlSecondsAfterFinished: 5, ", "completions: null, "]
    {
        // A parallelism alone makes it a queue of work, which is an edit that Kubernetes allows too.
        assert_eq!(uid(same), first, "{same}");
    }
    for other in ["completions: 2, ", "backoffLimit: 1, ", "activeDeadlineSeconds: 5, "] {
        assert_ne!(uid(other), first, "{other}");
    }
    // Neither the order of keys nor comments, nor another file.
    let ordered = text("Job", &format!("completions: 2, backoffLimit: 1, {TEMPLATE}"));
    let turned = text("Job", &format!("{TEMPLATE}, backoffLimit: 1, completions: 2"))
        .replace("spec: {t", "# why\nspec: {t");
    let of = |text: &str, path: &str| parse(text.as_bytes(), "x", path, "n").jobs.remove(0).uid;
    assert_eq!(of(&ordered, "/m/a"), of(&turned, "/m/b"));
    assert_ne!(of(&ordered, "/m/a"), of(&ordered.replace("name: a", "name: b"), "/m/a"));
    assert_ne!(of(&ordered, "/m/a"), of(&ordered.replace("image: x", "image: z"), "/m/a"));
    assert_eq!(cron_job("").job.uid, cron_job("suspend: true, ").job.uid, "an edit of when leaves what");
}

#[test]
fn a_list_holds_jobs_and_of_one_name_the_last_counts() {
    let template = TEMPLATE;
    let item = |limit: u32| {
        format!(
            "{{apiVersion: batch/v1, kind: Job, metadata: {{name: a}}, spec: {{backoffLimit: {limit}, {template}}}}}"
        )
    };
    let parsed = read(&format!("apiVersion: v1\nkind: List\nitems:\n- {}\n- {}\n", item(1), item(2)));
    assert_eq!(parsed.jobs.iter().map(|job| job.backoff_limit).collect::<Vec<_>>(), [2]);
    let told: Vec<_> = parsed.problems.iter().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].contains("Job default/a is also in j.yaml"), "{told:?}");
}

#[test]
fn a_time_zone_is_read_where_the_machine_has_it() {
    let folder = std::env::temp_dir().join(format!("podinit-zones-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("Europe")).unwrap();
    std::fs::write(folder.join("Europe/Berlin"), file("CET-1CEST,M3.5.0,M10.5.0/3")).unwrap();
    std::fs::write(folder.join("text"), "no rules").unwrap();
    let path = folder.display().to_string();
    let zone = cron::named(&path, "Europe/Berlin").unwrap();
    assert_eq!(zone.name(), "Europe/Berlin");
    let again: crate::pod::batch::schedule::Zone =
        serde_json::from_str(&serde_json::to_string(&zone).unwrap()).unwrap();
    assert_eq!(again, zone);
    for (name, expected) in [
        ("Europe/Rome", "install tzdata, or leave it out for UTC"),
        ("Europe", "is no time zone"),
        ("text", "\"text\" is not known here"),
        ("../text", "is no name of a time zone"),
        ("/text", "is no name of a time zone"),
        ("Europe//Berlin", "is no name of a time zone"),
    ] {
        let why = cron::named(&path, name).unwrap_err();
        assert!(why.contains(expected), "{name}: {why}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
