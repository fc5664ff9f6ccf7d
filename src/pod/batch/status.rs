//! Jobs and CronJobs as `kubectl get -o json` would show them: a projection of facts. Pure.
//!
//! As plain values: the typed objects would be a hundred kilobytes of code for what is only written.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::facts::{CronFacts, End, JobFacts};
use super::spec::{Concurrency, Consequence, Cron, Job, Rule};
use crate::clock::{Tick, Wall};
use crate::pod::World;
use crate::pod::facts::PodFacts;
use crate::pod::status::{MANIFEST, Node, status};

/// All Jobs that are not gone for good, by namespace and name.
pub fn jobs(world: &World, now: Tick, wall: &Wall) -> Vec<Value> {
    let mut jobs: Vec<_> = world.batch.jobs.values().filter(|facts| !facts.expired).collect();
    jobs.sort_by_cached_key(|facts| (facts.job.namespace.clone(), facts.job.name.clone()));
    jobs.into_iter().map(|facts| job(world, facts, now, wall)).collect()
}

/// All CronJobs, by namespace and name.
pub fn crons(world: &World, wall: &Wall) -> Vec<Value> {
    let mut crons: Vec<_> = world.batch.crons.values().collect();
    crons.sort_by_cached_key(|facts| (facts.cron.namespace.clone(), facts.cron.name.clone()));
    crons.into_iter().map(|facts| cron(world, facts, wall)).collect()
}

fn job(world: &World, facts: &JobFacts, now: Tick, wall: &Wall) -> Value {
    let job = &*facts.job;
    let mut metadata = metadata(&job.namespace, &job.name, &job.uid, &job.origin, facts.created(wall));
    if let Some((owner, time)) = &job.of {
        let name = owner.rsplit('/').next().unwrap_or_default();
        let uid = job.uid.strip_suffix(&format!("-{time}")).unwrap_or_default();
        metadata["ownerReferences"] = json!([{
            "apiVersion": "batch/v1", "blockOwnerDeletion": true, "controller": true, "kind": "CronJob", "name": name,
            "uid": uid,
        }]);
    }
    if let Some(missed) = facts.missed {
        metadata["deletionTimestamp"] = moment(wall.time(missed).as_second());
    }
    let mut spec = spec(job);
    spec["suspend"] = json!(facts.suspended);
    spec["selector"] = json!({ "matchLabels": { "batch.kubernetes.io/controller-uid": job.uid } });
    let status = progress(world, facts, now, wall);
    json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec, "status": status })
}

fn progress(world: &World, facts: &JobFacts, now: Tick, wall: &Wall) -> Value {
    let (job, progress) = (&facts.job, &facts.progress);
    let own =
        world.pods.values().filter(|pod| pod.spec.owner.as_ref().is_some_and(|owner| owner.job == job.uid));
    let (going, there): (Vec<&PodFacts>, Vec<&PodFacts>) =
        own.filter(|pod| !pod.done()).partition(|pod| pod.dismissed.is_some());
    let ready = |pod: &&&PodFacts| {
        let conditions = status(pod, now, wall, &Node::default()).conditions;
        conditions.iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True")
    };
    let mut told = json!({
        "ready": there.iter().filter(ready).count(), "terminating": going.len(), "uncountedTerminatedPods": {},
    });
    let counts =
        [("active", there.len() as u32), ("succeeded", progress.succeeded), ("failed", progress.failed)];
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        told[name] = json!(count);
    }
    if job.indexed && !progress.done.is_empty() {
        told["completedIndexes"] = json!(ranges(&progress.done));
    }
    if job.limit_per_index.is_some() {
        told["failedIndexes"] = json!(ranges(&progress.given_up));
    }
    if !facts.suspended {
        told["startTime"] = moment(facts.start(wall));
    }
    let condition = |kind: &str, at: i64, reason: &str, message: &str| {
        let at = moment(at);
        json!({
            "lastProbeTime": at, "lastTransitionTime": at, "message": message, "reason": reason, "status": "True",
            "type": kind,
        })
    };
    let mut conditions = Vec::new();
    match &facts.finished {
        None if facts.suspended => {
            let at = wall.time(facts.started).as_second();
            conditions.push(condition("Suspended", at, "JobSuspended", "Job suspended"));
        }
        None => {}
        // One condition says that it is to end, and the other, once it is on the disk, that it has.
        Some((_, end, _)) => {
            let at = finished(facts, wall);
            let (first, reason, message) = match end {
                End::Complete => {
                    ("SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods")
                }
                End::Failed(reason, message) => ("FailureTarget", reason.as_str(), message.as_str()),
            };
            conditions.push(condition(first, at, reason, message));
            if facts.kept {
                conditions.push(condition(end.word(), at, reason, message));
                if *end == End::Complete {
                    told["completionTime"] = moment(at);
                }
            }
        }
    }
    if !conditions.is_empty() {
        told["conditions"] = json!(conditions);
    }
    told
}

/// When it ended, in seconds: in this boot by its tick, else as a former boot noted it.
fn finished(facts: &JobFacts, wall: &Wall) -> i64 {
    match &facts.finished {
        Some((at, _, noted)) if *at == facts.begun => *noted,
        Some((at, _, _)) => wall.time(*at).as_second(),
        None => 0,
    }
}

fn cron(world: &World, facts: &CronFacts, wall: &Wall) -> Value {
    let cron = &*facts.cron;
    let created = wall.time(facts.begun).as_second();
    let metadata = metadata(&cron.namespace, &cron.name, &cron.job.uid, &cron.job.origin, created);
    let name = cron.full_name();
    let own: Vec<&JobFacts> = (world.batch.jobs.values())
        .filter(|job| job.job.of.as_ref().is_some_and(|(owner, _)| *owner == name))
        .collect();
    let mut status = json!({});
    let active: Vec<Value> = own
        .iter()
        .filter(|job| !job.expired && !job.kept)
        .map(|facts| {
            let Job { namespace, name, uid, .. } = &*facts.job;
            json!({ "apiVersion": "batch/v1", "kind": "Job", "name": name, "namespace": namespace, "uid": uid })
        })
        .collect();
    if !active.is_empty() {
        status["active"] = json!(active);
    }
    if facts.ran {
        status["lastScheduleTime"] = moment(facts.since);
    }
    let succeeded = own.iter().filter(|job| job.succeeded() == Some(true) && job.kept);
    if let Some(last) = succeeded.map(|job| finished(job, wall)).max() {
        status["lastSuccessfulTime"] = moment(last);
    }
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": when(cron), "status": status,
    })
}

fn when(cron: &Cron) -> Value {
    let mut spec = json!({
        "concurrencyPolicy": match cron.concurrency {
            Concurrency::Allow => "Allow",
            Concurrency::Forbid => "Forbid",
            Concurrency::Replace => "Replace",
        },
        "failedJobsHistoryLimit": cron.keep_failed,
        "jobTemplate": { "spec": spec(&cron.job) },
        "schedule": cron.text,
        "successfulJobsHistoryLimit": cron.keep_succeeded,
        "suspend": cron.suspend,
    });
    if let Some(late) = cron.late {
        spec["startingDeadlineSeconds"] = json!(late);
    }
    if !cron.zone.name().is_empty() {
        spec["timeZone"] = json!(cron.zone.name());
    }
    spec
}

fn spec(job: &Job) -> Value {
    let mode = if job.indexed { "Indexed" } else { "NonIndexed" };
    let mut spec = json!({
        "backoffLimit": job.backoff_limit, "completionMode": mode, "parallelism": job.parallelism, "template": template(job),
    });
    let seconds = |span: std::time::Duration| span.as_secs();
    let optional = [
        ("activeDeadlineSeconds", job.deadline.map(seconds)),
        ("backoffLimitPerIndex", job.limit_per_index.map(u64::from)),
        ("completions", job.completions.map(u64::from)),
        ("maxFailedIndexes", job.max_failed_indexes.map(u64::from)),
        ("ttlSecondsAfterFinished", job.ttl.map(seconds)),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            spec[name] = json!(value);
        }
    }
    if job.suspend {
        spec["suspend"] = json!(true);
    }
    if !job.rules.is_empty() {
        spec["podFailurePolicy"] = json!({ "rules": job.rules.iter().map(rule).collect::<Vec<_>>() });
    }
    spec
}

fn rule(rule: &Rule) -> Value {
    let action = match rule.what {
        Consequence::FailJob => "FailJob",
        Consequence::FailIndex => "FailIndex",
        Consequence::Ignore => "Ignore",
        Consequence::Count => "Count",
    };
    let mut on = json!({ "operator": if rule.not_in { "NotIn" } else { "In" }, "values": rule.codes });
    if let Some(container) = &rule.container {
        on["containerName"] = json!(container);
    }
    json!({ "action": action, "onExitCodes": on })
}

/// What its pods are made of, without what a manifest's pod has of its own.
fn template(job: &Job) -> Value {
    let object = &job.pod.object;
    let mut metadata = Map::new();
    if let Some(labels) = object.metadata.labels.as_ref().filter(|labels| !labels.is_empty()) {
        metadata.insert("labels".into(), json!(labels));
    }
    let written = |key: &&String| !key.starts_with("kubernetes.io/config.");
    let annotations: Map<String, Value> = (object.metadata.annotations.iter().flatten())
        .filter(|(key, _)| written(key))
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    if !annotations.is_empty() {
        metadata.insert("annotations".into(), Value::Object(annotations));
    }
    json!({ "metadata": metadata, "spec": object.spec })
}

fn metadata(namespace: &str, name: &str, uid: &str, origin: &str, created: i64) -> Value {
    json!({
        "annotations": { MANIFEST: origin }, "creationTimestamp": moment(created), "name": name, "namespace": namespace,
        "uid": uid,
    })
}

fn moment(second: i64) -> Value {
    json!(Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH).to_string())
}

/// `1,3-5,7`, as the Job controller writes indexes.
fn ranges(indexes: &BTreeSet<u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*index) => *last = *index,
            Some(_) | None => runs.push((*index, *index)),
        }
    }
    let text = runs.into_iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        // Two in a row are no range to the controller.
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    });
    text.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_told_as_the_controller_tells_them() {
        for (indexes, text) in [
            (vec![], ""),
            (vec![0], "0"),
            (vec![0, 1], "0,1"),
            (vec![0, 1, 2], "0-2"),
            (vec![1, 3, 4, 5, 7], "1,3-5,7"),
            (vec![u32::MAX], "4294967295"),
        ] {
            assert_eq!(ranges(&indexes.into_iter().collect()), text);
        }
    }
}
