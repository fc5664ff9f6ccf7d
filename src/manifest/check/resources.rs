//! The checks of resources: each container's, the pod's as a whole, and what a change of them does.

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::apimachinery::pkg::api::resource;

use super::choose;
use crate::manifest::report::Report;
use crate::manifest::tree::{Path, quote};
use crate::pod::quantity::Quantity;
use crate::pod::resources::together;
use crate::pod::spec::{Pod, Resources, RestartPolicy};

type Amounts = BTreeMap<String, resource::Quantity>;

/// Bytes by page size.
type HugePages = BTreeMap<u64, u64>;

/// One container's resources; `restart`: the pod's policy.
pub fn container(
    report: &mut Report<'_>,
    given: &k8s::Container,
    restart: RestartPolicy,
    path: &Path,
) -> (Resources, HugePages) {
    let (mut resources, huge) =
        amounts(report, given.resources.as_ref(), true, &path.key("resources")).unwrap_or_default();
    let mut seen = HashSet::new();
    for (index, policy) in given.resize_policy.iter().flatten().enumerate() {
        let path = path.key("resizePolicy").item(index);
        let policies = [("NotRequired", false), ("RestartContainer", true)];
        let field = path.key("restartPolicy");
        let restarts = choose(report, &Some(policy.restart_policy.clone()), &policies, &field);
        if restarts == Some(true) && restart == RestartPolicy::Never {
            report.refuse(&field, "RestartContainer excludes the pod's restartPolicy Never: use NotRequired");
        }
        let restarts = restarts.unwrap_or_default();
        let field = path.key("resourceName");
        match policy.resource_name.as_str() {
            "cpu" => resources.cpu_restarts = restarts,
            "memory" => resources.memory_restarts = restarts,
            other => report.refuse(&field, format!("{} is none of cpu, memory", quote(other))),
        }
        if !seen.insert(policy.resource_name.as_str()) {
            let message = format!("{} is given before: keep one", quote(&policy.resource_name));
            report.refuse(&field, message);
        }
    }
    (resources, huge)
}

/// The pod's own resources, where it gives them, which its containers' must fit into.
pub fn pod(report: &mut Report<'_>, given: Option<&k8s::ResourceRequirements>, pod: &mut Pod) {
    let path = Path::of("spec.resources");
    let Some((resources, huge)) = amounts(report, given, false, &path) else { return };
    let of = |list: fn(&k8s::ResourceRequirements) -> Option<&Amounts>, name: &str| {
        given.and_then(list).and_then(|amounts| amounts.get(name)).map(|text| text.0.clone())
    };
    type Part = fn(&Resources) -> Option<u64>;
    let table: [(&str, Part, Part); 2] =
        [("cpu", |r| r.cpu_request, |r| r.cpu_limit), ("memory", |r| r.memory_request, |r| r.memory_limit)];
    for (name, request, limit) in table {
        let sum = together(pod, |container| request(&container.resources).unwrap_or_default());
        if let Some(most) = request(&resources)
            && sum > most
        {
            let text = of(|given| given.requests.as_ref(), name).unwrap_or_default();
            let unit = if name == "cpu" { "m" } else { "" };
            let message =
                format!("{text} is less than its containers request together, {sum}{unit}: raise it");
            report.refuse(&path.key("requests").entry(name), message);
        }
        if let Some(most) = limit(&resources)
            && let Some(greedy) = pod.all().find(|c| limit(&c.resources).is_some_and(|own| own > most))
        {
            let text = of(|given| given.limits.as_ref(), name).unwrap_or_default();
            let message = format!("{text} is less than the limit of container {}: raise it", greedy.name);
            report.refuse(&path.key("limits").entry(name), message);
        }
    }
    for (size, most) in &huge {
        let sum = together(pod, |container| container.huge_pages.get(size).copied().unwrap_or_default());
        if sum > *most {
            let message = format!(
                "{most} bytes of pages of {size} bytes are less than its containers request together, {sum}"
            );
            report.refuse(&path.key("limits"), message);
        }
    }
    (pod.resources, pod.huge_pages) = (Some(resources), huge);
}

/// None: nothing is given. `own`: a container's, else the pod's.
fn amounts(
    report: &mut Report<'_>,
    given: Option<&k8s::ResourceRequirements>,
    own: bool,
    path: &Path,
) -> Option<(Resources, HugePages)> {
    let none = BTreeMap::new();
    let limits = given.and_then(|given| given.limits.as_ref()).unwrap_or(&none);
    let requests = given.and_then(|given| given.requests.as_ref()).unwrap_or(&none);
    for (amounts, list) in [(limits, "limits"), (requests, "requests")] {
        for name in amounts.keys().filter(|name| !known(name, own)) {
            let storage = if own { ", ephemeral-storage" } else { "" };
            let message = format!(
                "{} is not a resource that is supported: cpu, memory{storage} and hugepages-<size> are",
                quote(name)
            );
            // A missing request was filled in from the limit, and has its refusal there.
            let path = path.key(list).entry(name);
            if list == "limits" || !limits.contains_key(name) {
                report.refuse(&path, message);
            }
        }
    }
    let mut pair = |name: &str| {
        let limit = amount(report, limits, name, &path.key("limits"));
        let request = amount(report, requests, name, &path.key("requests"));
        if let (Some(limit), Some(request)) = (limit, request)
            && request > limit
        {
            let texts = (requests.get(name), limits.get(name));
            let (Some(more), Some(less)) = texts else { return (request.into(), limit.into()) };
            let message =
                format!("{} is more than the limit, {}: raise the limit or lower this", more.0, less.0);
            report.refuse(&path.key("requests").entry(name), message);
        }
        (request, limit)
    };
    let (cpu_request, cpu_limit) = pair("cpu");
    let (memory_request, memory_limit) = pair("memory");
    let (storage_request, storage_limit) = pair("ephemeral-storage");
    let huge = huge_pages(report, limits, requests, path);
    let resources = Resources {
        cpu_request: cpu_request.map(Quantity::milli),
        cpu_limit: cpu_limit.map(Quantity::milli),
        memory_request: memory_request.map(Quantity::whole),
        memory_limit: memory_limit.map(Quantity::whole),
        storage_request: storage_request.map(Quantity::whole),
        storage_limit: storage_limit.map(Quantity::whole),
        ..Resources::default()
    };
    (!limits.is_empty() || !requests.is_empty()).then_some((resources, huge))
}

fn known(name: &str, own: bool) -> bool {
    matches!(name, "cpu" | "memory") || (own && name == "ephemeral-storage") || name.starts_with("hugepages-")
}

/// Pages are not shared: what is requested is the limit.
fn huge_pages(report: &mut Report<'_>, limits: &Amounts, requests: &Amounts, path: &Path) -> HugePages {
    let mut pages = BTreeMap::new();
    let names: HashSet<&String> = limits.keys().chain(requests.keys()).collect();
    let mut names: Vec<&String> = names.into_iter().filter(|name| name.starts_with("hugepages-")).collect();
    names.sort();
    for name in names {
        let field = path.key(if limits.contains_key(name) { "limits" } else { "requests" }).entry(name);
        let size = match page_size(name) {
            Ok(size) => size,
            Err(why) => {
                report.refuse(&field, why);
                continue;
            }
        };
        let (Some(limit), Some(request)) = (
            amount(report, limits, name, &path.key("limits")),
            amount(report, requests, name, &path.key("requests")),
        ) else {
            if !limits.contains_key(name) {
                report.refuse(&field, "has no limit, which huge pages need: give the same as limit");
            }
            continue;
        };
        if limit != request {
            let message = "differs from the limit: huge pages are not shared, so write the same";
            report.refuse(&path.key("requests").entry(name), message);
        }
        if limit.fraction() || limit.whole() % size != 0 {
            let text = limits.get(name).map(|text| text.0.as_str()).unwrap_or_default();
            report.refuse(&field, format!("{text} is not a multiple of the page size: round it up"));
        }
        let others = ["cpu", "memory"];
        if !others.iter().any(|other| limits.contains_key(*other) || requests.contains_key(*other)) {
            report.refuse(&field, "needs cpu or memory beside it: add one");
        }
        // One size may be written in two ways: hugepages-2Mi and hugepages-2048Ki.
        let bytes: &mut u64 = pages.entry(size).or_default();
        *bytes = bytes.saturating_add(limit.whole());
    }
    pages.retain(|_, bytes| *bytes > 0);
    pages
}

/// The bytes of `hugepages-2Mi`.
pub fn page_size(name: &str) -> Result<u64, String> {
    let size = name.strip_prefix("hugepages-").and_then(|size| Quantity::parse(size).ok());
    let size = size.filter(|size| !size.negative() && !size.fraction() && size.whole() > 0);
    let wrong = || format!("{} names no page size: write it as hugepages-2Mi", quote(name));
    size.map(Quantity::whole).ok_or_else(wrong)
}

fn amount(report: &mut Report<'_>, amounts: &Amounts, name: &str, path: &Path) -> Option<Quantity> {
    let text = &amounts.get(name)?.0;
    let path = path.entry(name);
    let amount = super::amount(report, text, &path)?;
    if name != "cpu" && amount.fraction() && amount.whole() < 1 << 20 {
        report.warn(
            &path,
            format!("{text} is a fraction of a byte: M is a million bytes, Mi 1048576, m a thousandth"),
        );
    }
    Some(amount)
}
