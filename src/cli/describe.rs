//! `describe pod`: kubectl's sections, and what is wrong with the pod's manifest.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::args::Describe;
use super::get::{all_events, all_problems, fate, is_of};
use super::progress::pulls;
use super::table::{age, align};
use super::{Failure, World, names};
use crate::pod::pulls::OnTheWay;
use crate::pod::spec::Problem;

mod container;
mod volume;

/// Describes the pods asked for, an empty line between them.
pub fn describe(describe: &Describe, world: &mut World<'_>) -> Result<(), Failure> {
    let pods = names::pods(world)?;
    let (chosen, missing) = names::choose(&pods, &describe.names, describe.namespace.as_deref());
    let (events, problems) = (all_events(world)?, all_problems(world)?);
    let pulls = pulls(world)?;
    if chosen.is_empty() && describe.names.is_empty() {
        match &describe.namespace {
            Some(namespace) => writeln!(world.err, "No resources found in {namespace} namespace.")?,
            None => writeln!(world.err, "No resources found")?,
        }
    }
    for (at, pod) in chosen.iter().enumerate() {
        if at > 0 {
            world.out.write_all(b"\n\n")?;
        }
        let own: Vec<&k8s::Event> =
            events.iter().filter(|event| event.involved_object.uid == pod.metadata.uid).collect();
        let wrong: Vec<String> = problems
            .iter()
            .filter(|problem| is_of(pod, &problem.file))
            .map(|problem: &Problem| format!("{problem}{}", fate(problem, &pods)))
            .collect();
        let text = page(pod, &own, &wrong, &pulls, world.now);
        world.out.write_all(align(&text, 0, 2).as_bytes())?;
    }
    missing.into_iter().next().map_or(Ok(()), Err)
}

/// A page of text, its columns still separated by tabs.
struct Page(String);

impl Page {
    /// One line, so many levels in.
    fn line(&mut self, level: usize, text: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{}{text}", "  ".repeat(level));
    }

    /// `Title:` and its value in the next column.
    fn pair(&mut self, level: usize, title: impl Display, value: impl Display) {
        self.line(level, format_args!("{title}:\t{value}"));
    }

    /// `Title:` and one entry a line.
    fn entries(&mut self, title: &str, entries: &[String]) {
        match entries.split_first() {
            None => self.pair(0, title, "<none>"),
            Some((first, rest)) => {
                self.pair(0, title, first);
                rest.iter().for_each(|entry| self.line(0, format_args!("\t{entry}")));
            }
        }
    }
}

fn page(
    pod: &k8s::Pod,
    events: &[&k8s::Event],
    problems: &[String],
    pulls: &[OnTheWay],
    now: Timestamp,
) -> String {
    let (no_spec, no_status) = (k8s::PodSpec::default(), k8s::PodStatus::default());
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    let status = pod.status.as_ref().unwrap_or(&no_status);
    let mut page = Page(String::new());
    head(&mut page, pod, spec, status, now);
    let init = spec.init_containers.as_deref().unwrap_or_default();
    if !init.is_empty() {
        container::section(&mut page, "Init Containers", init, &status.init_container_statuses, pod, pulls);
    }
    container::section(&mut page, "Containers", &spec.containers, &status.container_statuses, pod, pulls);
    if let Some(conditions) = status.conditions.as_ref().filter(|all| !all.is_empty()) {
        page.line(0, "Conditions:");
        page.line(1, "Type\tStatus");
        for one in conditions {
            page.line(1, format_args!("{} \t{} ", one.type_, one.status));
        }
    }
    volume::section(&mut page, spec.volumes.as_deref().unwrap_or_default());
    page.pair(0, "QoS Class", status.qos_class.as_deref().unwrap_or_default());
    page.entries("Node-Selectors", &pairs(spec.node_selector.as_ref(), "="));
    let tolerations: Vec<String> = spec.tolerations.iter().flatten().map(toleration).collect();
    page.entries("Tolerations", &tolerations);
    if !problems.is_empty() {
        page.line(0, "Manifest Problems:");
        problems.iter().for_each(|problem| page.line(1, problem));
    }
    self::events(&mut page, events, now);
    page.0
}

fn head(page: &mut Page, pod: &k8s::Pod, spec: &k8s::PodSpec, status: &k8s::PodStatus, now: Timestamp) {
    let meta = &pod.metadata;
    page.pair(0, "Name", meta.name.as_deref().unwrap_or_default());
    page.pair(0, "Namespace", meta.namespace.as_deref().unwrap_or_default());
    if let Some(priority) = spec.priority {
        page.pair(0, "Priority", priority);
    }
    if let Some(class) = spec.priority_class_name.as_ref().filter(|name| !name.is_empty()) {
        page.pair(0, "Priority Class Name", class);
    }
    if let Some(account) = spec.service_account_name.as_ref().filter(|name| !name.is_empty()) {
        page.pair(0, "Service Account", account);
    }
    match &spec.node_name {
        Some(node) => {
            page.pair(0, "Node", format_args!("{node}/{}", status.host_ip.as_deref().unwrap_or_default()));
        }
        None => page.pair(0, "Node", "<none>"),
    }
    if let Some(time) = &status.start_time {
        page.pair(0, "Start Time", date(time));
    }
    page.entries("Labels", &pairs(meta.labels.as_ref(), "="));
    page.entries("Annotations", &pairs(meta.annotations.as_ref(), ": "));
    let phase = status.phase.as_deref().unwrap_or_default();
    match &meta.deletion_timestamp {
        Some(until) if phase != "Succeeded" && phase != "Failed" => {
            // Before its end the grace period lasts, after it it lasted.
            let over = now > until.0;
            let lasts = if over { age(Some(until.0), now) } else { age(Some(now), until.0) };
            page.pair(
                0,
                "Status",
                format_args!("Terminating (lasts {}{lasts})", if over { "" } else { "at most " }),
            );
            if let Some(grace) = meta.deletion_grace_period_seconds {
                page.pair(0, "Termination Grace Period", format_args!("{grace}s"));
            }
        }
        Some(_) | None => page.pair(0, "Status", phase),
    }
    for (title, text) in [("Reason", &status.reason), ("Message", &status.message)] {
        if let Some(text) = text {
            page.pair(0, title, text);
        }
    }
    page.pair(0, "IP", status.pod_ip.as_deref().unwrap_or_default());
    match status.pod_ips.as_deref() {
        None | Some([]) => page.pair(0, "IPs", "<none>"),
        Some(ips) => {
            page.line(0, "IPs:");
            ips.iter().for_each(|ip| page.pair(1, "IP", &ip.ip));
        }
    }
}

fn events(page: &mut Page, events: &[&k8s::Event], now: Timestamp) {
    if events.is_empty() {
        return page.pair(0, "Events", "<none>");
    }
    page.line(0, "Events:");
    page.line(1, "Type\tReason\tAge\tFrom\tMessage");
    page.line(1, "----\t------\t----\t----\t-------");
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    for event in events {
        let since = |time: &Option<Time>| age(time.as_ref().map(|time| time.0), now);
        let seen = match event.count {
            Some(count @ 2..) => {
                format!("{} (x{count} over {})", since(&event.last_timestamp), since(&event.first_timestamp))
            }
            Some(_) | None => since(&event.first_timestamp),
        };
        let from = event.source.as_ref().and_then(|source| source.component.clone()).unwrap_or_default();
        let message = text(&event.message).replace(['\t', '\n'], " ");
        let (kind, reason) = (text(&event.type_), text(&event.reason));
        page.line(1, format_args!("{kind}\t{reason}\t{seen}\t{from}\t{}", message.trim()));
    }
}

/// `key=value` of each, sorted.
fn pairs(map: Option<&BTreeMap<String, String>>, between: &str) -> Vec<String> {
    let clean = |value: &String| value.replace(['\t', '\n'], " ");
    map.into_iter().flatten().map(|(key, value)| format!("{key}{between}{}", clean(value))).collect()
}

/// `key=value:effect op=Exists for 300s`, as far as it is given.
fn toleration(toleration: &k8s::Toleration) -> String {
    let mut text = toleration.key.clone().unwrap_or_default();
    if let Some(value) = toleration.value.as_ref().filter(|value| !value.is_empty()) {
        let _ = write!(text, "={value}");
    }
    if let Some(effect) = toleration.effect.as_ref().filter(|effect| !effect.is_empty()) {
        let _ = write!(text, ":{effect}");
    }
    if toleration.operator.as_deref() == Some("Exists") {
        text.push_str(if text.is_empty() { "op=Exists" } else { " op=Exists" });
    }
    if let Some(seconds) = toleration.toleration_seconds {
        let _ = write!(text, " for {seconds}s");
    }
    text
}

/// `Tue, 24 Nov 2026 03:04:05 +0000`.
fn date(time: &Time) -> String {
    jiff::fmt::strtime::format("%a, %d %b %Y %H:%M:%S +0000", time.0).unwrap_or_else(|_| time.0.to_string())
}
