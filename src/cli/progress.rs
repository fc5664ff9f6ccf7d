//! Images on their way: what `get pods` and `describe pod` tell of them, beside kubectl's columns and words.

use std::time::Duration;

use k8s_openapi::api::core::v1 as k8s;

use super::ask::{ask, unexpected};
use super::image::size;
use super::{Failure, World};
use crate::clock::spelt;
use crate::operator::request::{Answer, Request};
use crate::pod::pulls::{Layer, OnTheWay};

/// All that are on their way.
pub fn pulls(world: &World<'_>) -> Result<Vec<OnTheWay>, Failure> {
    match ask(&world.socket, &Request::Pulls {})? {
        Answer::Pulls { items } => Ok(items),
        other => Err(unexpected(&other)),
    }
}

/// A line for each image that each of these pods waits for. They go where no script reads: the table is kubectl's.
pub fn lines(pods: &[&k8s::Pod], world: &mut World<'_>) -> Result<(), Failure> {
    for pull in pulls(world)? {
        for pod in pods.iter().filter(|pod| waits(&pull, pod, None)) {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            writeln!(world.err, "{name}: pulling {}: {}", pull.image, told(&pull))?;
        }
    }
    Ok(())
}

/// Whether this pod, or a container of it, waits for the image.
pub fn waits(pull: &OnTheWay, pod: &k8s::Pod, container: Option<&str>) -> bool {
    let of = |uid: &String, name: &String| {
        Some(uid) == pod.metadata.uid.as_ref() && container.is_none_or(|container| container == name)
    };
    pull.whose.iter().any(|(uid, name)| of(uid, name))
}

/// `12.3MB of 45.0MB (27%), 1 of 3 layers, 1.20MB/s, for 10s`.
pub fn told(pull: &OnTheWay) -> String {
    let Some(millis) = pull.millis else { return "waits for its turn".to_owned() };
    let since = spelt(Duration::from_secs(millis / 1000));
    if pull.layers.is_empty() {
        return format!("asks its registry, for {since}");
    }
    let all = pull.layers.iter().fold(Layer::default(), |sum, layer| Layer {
        done: sum.done.saturating_add(layer.done.min(layer.total)),
        total: sum.total.saturating_add(layer.total),
        had: sum.had.saturating_add(layer.had),
    });
    let whole = pull.layers.iter().filter(|layer| layer.done >= layer.total).count();
    let percent = (u128::from(all.done) * 100).checked_div(all.total.into()).unwrap_or(100);
    let fresh = u128::from(all.done.saturating_sub(all.had));
    let speed = (fresh * 1000).checked_div(millis.into()).and_then(|speed| u64::try_from(speed).ok());
    format!(
        "{} of {} ({percent}%), {whole} of {} layers, {}/s, for {since}",
        size(all.done),
        size(all.total),
        pull.layers.len(),
        size(speed.unwrap_or_default()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_told_by_its_bytes_and_its_time() {
        let layer = |done, total, had| Layer { done, total, had };
        let table = [
            (None, vec![], "waits for its turn"),
            (Some(2500), vec![], "asks its registry, for 2s"),
            (
                Some(10_000),
                vec![layer(12_000_000, 40_000_000, 0), layer(5_000_000, 5_000_000, 5_000_000)],
                "17.0MB of 45.0MB (37%), 1 of 2 layers, 1.20MB/s, for 10s",
            ),
            // What is begun anew counts from its beginning.
            (Some(0), vec![layer(0, 7, 0)], "0B of 7B (0%), 0 of 1 layers, 0B/s, for 0s"),
            (Some(61_000), vec![layer(7, 7, 7)], "7B of 7B (100%), 1 of 1 layers, 0B/s, for 1m1s"),
            (Some(1), vec![layer(0, 0, 0)], "0B of 0B (100%), 1 of 1 layers, 0B/s, for 0s"),
            (
                Some(1000),
                vec![layer(u64::MAX, u64::MAX, 0); 2],
                "18446744074GB of 18446744074GB (100%), 2 of 2",
            ),
        ];
        for (millis, layers, expected) in table {
            let pull = OnTheWay { image: "a".into(), whose: vec![], millis, layers };
            assert!(told(&pull).starts_with(expected), "{expected}: {}", told(&pull));
        }
    }
}
