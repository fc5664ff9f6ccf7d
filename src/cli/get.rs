//! `get pods`, `get events`, `get problems`, and how what is got is shown.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::List;
use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;

use super::args::{Get, Output};
use super::ask::{ask, unexpected};
use super::resource::Resource;
use super::row::row;
use super::table::{age, table};
use super::{Failure, World, batch, names, progress};
use crate::operator::request::{Answer, Request};
use crate::pod::spec::Problem;
use crate::pod::status::MANIFEST;

/// Prints what was asked for.
pub fn get(get: &Get, world: &mut World<'_>) -> Result<(), Failure> {
    match get.resource {
        Resource::Pods => pods(get, world),
        Resource::Jobs => batch::get(&batch::JOBS, get, world),
        Resource::CronJobs => batch::get(&batch::CRON_JOBS, get, world),
        Resource::Events => events(get, world),
        Resource::Problems => problems(get, world),
    }
}

/// What is wrong with the manifests.
pub fn all_problems(world: &World<'_>) -> Result<Vec<Problem>, Failure> {
    match ask(&world.socket, &Request::Problems {})? {
        Answer::Problems { items } => Ok(items),
        other => Err(unexpected(&other)),
    }
}

/// All events, the oldest first.
pub fn all_events(world: &World<'_>) -> Result<Vec<k8s::Event>, Failure> {
    match ask(&world.socket, &Request::Events {})? {
        Answer::Events { mut items } => {
            items.sort_by_key(|event| event.last_timestamp.clone());
            Ok(items)
        }
        other => Err(unexpected(&other)),
    }
}

/// Whether a pod came from this manifest file.
pub fn is_of(pod: &k8s::Pod, file: &str) -> bool {
    let origin = pod.metadata.annotations.as_ref().and_then(|all| all.get(MANIFEST));
    origin.is_some_and(|origin| origin.split('#').next() == Some(file))
}

fn pods(get: &Get, world: &mut World<'_>) -> Result<(), Failure> {
    let all = names::pods(world)?;
    let (chosen, missing) = names::choose(&all, &get.names, get.namespace.as_deref());
    let spaced = get.namespace.is_none();
    match get.output {
        Output::Json | Output::Yaml => {
            let list: Vec<k8s::Pod> = chosen.into_iter().cloned().collect();
            match (list.as_slice(), get.names.len()) {
                ([], 1..) => {}
                ([pod], 1) => data(pod, get.output, world)?,
                _ => data(&List { items: list, ..Default::default() }, get.output, world)?,
            }
        }
        Output::Name => {
            for pod in chosen {
                writeln!(world.out, "pod/{}", pod.metadata.name.as_deref().unwrap_or_default())?;
            }
        }
        Output::Table | Output::Wide => {
            let wide = get.output == Output::Wide;
            let mut head = vec!["NAME", "READY", "STATUS", "RESTARTS", "AGE"];
            if wide {
                head.extend(["IP", "NODE", "NOMINATED NODE", "READINESS GATES"]);
            }
            let mut rows: Vec<Vec<String>> = Vec::new();
            for pod in &chosen {
                rows.push(spaced_row(spaced, &pod.metadata.namespace, row(pod, wide, world.now)));
            }
            if !rows.is_empty() || get.names.is_empty() {
                show(get, head, &rows, world)?;
            }
            progress::lines(&chosen, world)?;
            refused(&all, world)?;
        }
    }
    told(missing, world)
}

/// One line a refused file, so that a pod that does not follow its manifest is no riddle.
fn refused(pods: &[k8s::Pod], world: &mut World<'_>) -> Result<(), Failure> {
    let mut files = BTreeSet::new();
    for problem in all_problems(world)?.iter().filter(|problem| problem.refused) {
        if files.insert(problem.file.clone()) {
            writeln!(world.err, "{problem}{}", fate(problem, pods))?;
        }
    }
    Ok(())
}

/// What became of a refused manifest's pods.
pub fn fate(problem: &Problem, pods: &[k8s::Pod]) -> &'static str {
    match problem.refused {
        false => "",
        true if pods.iter().any(|pod| is_of(pod, &problem.file)) => " (last good version runs on)",
        true => " (refused)",
    }
}

fn events(get: &Get, world: &mut World<'_>) -> Result<(), Failure> {
    let mut list = all_events(world)?;
    if let Some(namespace) = &get.namespace {
        list.retain(|event| event.metadata.namespace.as_ref() == Some(namespace));
    }
    let wide = match get.output {
        Output::Json | Output::Yaml => {
            return data(&List { items: list, ..Default::default() }, get.output, world);
        }
        Output::Table | Output::Name => false,
        Output::Wide => true,
    };
    let head = if wide {
        vec![
            "LAST SEEN",
            "TYPE",
            "REASON",
            "OBJECT",
            "SUBOBJECT",
            "SOURCE",
            "MESSAGE",
            "FIRST SEEN",
            "COUNT",
            "NAME",
        ]
    } else {
        vec!["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    };
    let spaced = get.namespace.is_none();
    let rows: Vec<_> = list
        .iter()
        .map(|event| spaced_row(spaced, &event.metadata.namespace, event_row(event, wide, world.now)))
        .collect();
    show(get, head, &rows, world)
}

fn event_row(event: &k8s::Event, wide: bool, now: Timestamp) -> Vec<String> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let seen = |time: &Option<Time>| age(time.as_ref().map(|time| time.0), now);
    let object = &event.involved_object;
    let about = format!("{}/{}", text(&object.kind).to_lowercase(), text(&object.name));
    let mut row = vec![seen(&event.last_timestamp), text(&event.type_), text(&event.reason), about];
    let message = text(&event.message).trim().to_owned();
    if !wide {
        row.push(message);
        return row;
    }
    let source = event.source.clone().unwrap_or_default();
    let source: Vec<String> = [source.component, source.host].into_iter().flatten().collect();
    row.extend([text(&object.field_path), source.join(", "), message, seen(&event.first_timestamp)]);
    row.extend([event.count.unwrap_or(1).to_string(), text(&event.metadata.name)]);
    row
}

fn problems(get: &Get, world: &mut World<'_>) -> Result<(), Failure> {
    let list = all_problems(world)?;
    if matches!(get.output, Output::Json | Output::Yaml) {
        return data(&list, get.output, world);
    }
    if list.is_empty() {
        writeln!(world.err, "No problems: every manifest was read and took effect as a whole.")?;
        return Ok(());
    }
    let rows: Vec<Vec<String>> = list
        .iter()
        .map(|problem| {
            let place = match problem.line {
                0 => problem.file.clone(),
                line => format!("{}:{line}", problem.file),
            };
            let verdict = if problem.refused { "Refused" } else { "Warning" };
            let field = if problem.field.is_empty() { "<none>".to_owned() } else { problem.field.clone() };
            vec![place, verdict.to_owned(), field, problem.message.clone()]
        })
        .collect();
    show(get, vec!["MANIFEST", "TYPE", "FIELD", "MESSAGE"], &rows, world)
}

/// With the namespace before it, where all of them are shown.
pub fn spaced_row(spaced: bool, namespace: &Option<String>, mut row: Vec<String>) -> Vec<String> {
    if spaced {
        row.insert(0, namespace.clone().unwrap_or_default());
    }
    row
}

/// The table, or a word that there is nothing.
pub fn show(
    get: &Get,
    mut head: Vec<&str>,
    rows: &[Vec<String>],
    world: &mut World<'_>,
) -> Result<(), Failure> {
    if rows.is_empty() {
        match &get.namespace {
            Some(namespace) => writeln!(world.err, "No resources found in {namespace} namespace.")?,
            None => writeln!(world.err, "No resources found")?,
        }
        return Ok(());
    }
    if get.namespace.is_none() && get.resource != Resource::Problems {
        head.insert(0, "NAMESPACE");
    }
    let text = table(&head, rows);
    let text = if get.headers { text.as_str() } else { text.split_once('\n').map_or("", |(_, rest)| rest) };
    world.out.write_all(text.as_bytes())?;
    Ok(())
}

/// The objects themselves.
pub fn data<T: Serialize>(value: &T, output: Output, world: &mut World<'_>) -> Result<(), Failure> {
    // By way of a value, whose keys are sorted as kubectl's are.
    let value = serde_json::to_value(value).map_err(|why| why.to_string());
    let text = value.and_then(|value| if output == Output::Json { json(&value) } else { yaml(&value) });
    let text = text.map_err(|why| Failure::plain(format!("the answer cannot be written: {why}")))?;
    world.out.write_all(text.as_bytes())?;
    Ok(())
}

/// With kubectl's indent.
fn json(value: &serde_json::Value) -> Result<String, String> {
    let mut text = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut out = serde_json::Serializer::with_formatter(&mut text, form);
    value.serialize(&mut out).map_err(|why| why.to_string())?;
    text.push(b'\n');
    String::from_utf8(text).map_err(|why| why.to_string())
}

fn yaml(value: &serde_json::Value) -> Result<String, String> {
    serde_yaml::to_string(value).map_err(|why| why.to_string())
}

/// Tells all failures but the last, and returns that one.
pub fn told(mut failures: Vec<Failure>, world: &mut World<'_>) -> Result<(), Failure> {
    let last = failures.pop();
    for failure in failures {
        writeln!(world.err, "{}", failure.text)?;
    }
    last.map_or(Ok(()), Err)
}
