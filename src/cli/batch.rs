//! `get jobs`, `get cronjobs`: kubectl's columns (its printer's printJob and printCronJob).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::args::{Get, Output};
use super::ask::{ask, unexpected};
use super::get::{data, show, spaced_row, told};
use super::table::{age, span};
use super::{Failure, World};
use crate::operator::request::{Answer, Request};

/// One of the two.
pub struct Kind {
    /// In kubectl's messages, and before a name.
    plural: &'static str,
    singular: &'static str,
    list: &'static str,
    head: &'static [&'static str],
    row: fn(&Value, Timestamp) -> Vec<String>,
    /// Where the pods' spec and their selector are.
    template: &'static str,
    selector: &'static str,
}

pub const JOBS: Kind = Kind {
    plural: "jobs.batch",
    singular: "job.batch",
    list: "JobList",
    head: &["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"],
    row: job,
    template: "/spec/template/spec",
    selector: "/spec/selector/matchLabels",
};

pub const CRON_JOBS: Kind = Kind {
    plural: "cronjobs.batch",
    singular: "cronjob.batch",
    list: "CronJobList",
    head: &["NAME", "SCHEDULE", "TIMEZONE", "SUSPEND", "ACTIVE", "LAST SCHEDULE", "AGE"],
    row: cron,
    template: "/spec/jobTemplate/spec/template/spec",
    selector: "/spec/jobTemplate/spec/selector/matchLabels",
};

/// Prints those asked for.
pub fn get(kind: &Kind, get: &Get, world: &mut World<'_>) -> Result<(), Failure> {
    let all = all(kind, world)?;
    let (chosen, missing) = choose(kind, &all, get);
    match get.output {
        Output::Json | Output::Yaml => match (chosen.as_slice(), get.names.len()) {
            ([], 1..) => {}
            ([one], 1) => data(one, get.output, world)?,
            _ => {
                let list = json!({
                    "apiVersion": "batch/v1", "items": chosen, "kind": kind.list, "metadata": {},
                });
                data(&list, get.output, world)?;
            }
        },
        Output::Name => {
            for one in chosen {
                writeln!(world.out, "{}/{}", kind.singular, text(one, "/metadata/name"))?;
            }
        }
        Output::Table | Output::Wide => {
            let wide = get.output == Output::Wide;
            let mut head = kind.head.to_vec();
            if wide {
                head.extend(["CONTAINERS", "IMAGES", "SELECTOR"]);
            }
            let row = |one: &&Value| {
                let mut row = (kind.row)(one, world.now);
                if wide {
                    row.extend(["name", "image"].map(|field| containers(kind, one, field)));
                    row.push(selector(kind, one));
                }
                spaced_row(get.namespace.is_none(), &Some(text(one, "/metadata/namespace").into()), row)
            };
            let rows: Vec<Vec<String>> = chosen.iter().map(row).collect();
            if !rows.is_empty() || get.names.is_empty() {
                show(get, head, &rows, world)?;
            }
        }
    }
    told(missing, world)
}

fn all(kind: &Kind, world: &World<'_>) -> Result<Vec<Value>, Failure> {
    let request = if kind.list == JOBS.list { Request::Jobs {} } else { Request::CronJobs {} };
    match ask(&world.socket, &request)? {
        Answer::Jobs { items } | Answer::CronJobs { items } => Ok(items),
        other => Err(unexpected(&other)),
    }
}

/// Those of the names given, or all; and a failure for each name that there is none of.
fn choose<'a>(kind: &Kind, all: &'a [Value], get: &Get) -> (Vec<&'a Value>, Vec<Failure>) {
    let here = |one: &&Value| {
        get.namespace.as_deref().is_none_or(|wanted| text(one, "/metadata/namespace") == wanted)
    };
    let there: Vec<&Value> = all.iter().filter(here).collect();
    if get.names.is_empty() {
        return (there, Vec::new());
    }
    let (mut chosen, mut missing) = (Vec::new(), Vec::new());
    for name in &get.names {
        let before = chosen.len();
        chosen.extend(there.iter().filter(|one| text(one, "/metadata/name") == name));
        if chosen.len() == before {
            let plural = kind.plural;
            let text = format!("Error from server (NotFound): {plural} \"{name}\" not found");
            missing.push(Failure { text, code: 1 });
        }
    }
    (chosen, missing)
}

fn job(job: &Value, now: Timestamp) -> Vec<String> {
    let succeeded = number(job, "/status/succeeded").unwrap_or(0);
    let completions = match (number(job, "/spec/completions"), number(job, "/spec/parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, Some(most)) if most > 1 => format!("{succeeded}/1 of {most}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let duration = time(job, "/status/startTime").map(|start| {
        let end = time(job, "/status/completionTime").unwrap_or(now);
        span(end.as_second() - start.as_second())
    });
    let name = text(job, "/metadata/name").to_owned();
    let created = time(job, "/metadata/creationTimestamp");
    vec![name, status(job).into(), completions, duration.unwrap_or_default(), age(created, now)]
}

fn status(job: &Value) -> &'static str {
    let conditions = job.pointer("/status/conditions").and_then(Value::as_array);
    let holds = |kind: &&str| {
        let mut all = conditions.into_iter().flatten();
        all.any(|one| text(one, "/type") == *kind && text(one, "/status") == "True")
    };
    if let Some(end) = ["Complete", "Failed"].into_iter().find(|kind| holds(kind)) {
        return end;
    }
    if job.pointer("/metadata/deletionTimestamp").is_some() {
        return "Terminating";
    }
    let state = ["Suspended", "FailureTarget", "SuccessCriteriaMet"].into_iter().find(|kind| holds(kind));
    state.unwrap_or("Running")
}

fn cron(cron: &Value, now: Timestamp) -> Vec<String> {
    let suspended = cron.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true);
    let active = cron.pointer("/status/active").and_then(Value::as_array).map_or(0, Vec::len);
    let last = time(cron, "/status/lastScheduleTime");
    vec![
        text(cron, "/metadata/name").into(),
        text(cron, "/spec/schedule").into(),
        or_none(text(cron, "/spec/timeZone").into()),
        if suspended { "True" } else { "False" }.into(),
        active.to_string(),
        last.map_or_else(|| "<none>".into(), |last| age(Some(last), now)),
        age(time(cron, "/metadata/creationTimestamp"), now),
    ]
}

/// What its pods' containers have in this field.
fn containers(kind: &Kind, object: &Value, field: &str) -> String {
    let all = object.pointer(kind.template).and_then(|spec| spec["containers"].as_array());
    let told = all.into_iter().flatten().filter_map(|one| one[field].as_str());
    told.collect::<Vec<_>>().join(",")
}

fn selector(kind: &Kind, object: &Value) -> String {
    let labels = object.pointer(kind.selector).and_then(Value::as_object).into_iter().flatten();
    let told: Vec<String> =
        labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    or_none(told.join(","))
}

fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".into() } else { text }
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn number(object: &Value, path: &str) -> Option<u64> {
    object.pointer(path).and_then(Value::as_u64)
}

fn time(object: &Value, path: &str) -> Option<Timestamp> {
    text(object, path).parse().ok()
}
