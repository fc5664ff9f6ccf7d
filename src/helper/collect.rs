//! `podinit __collect`: notes which images are in use, and removes what `pod::collect` decides on. Descriptor 3 is the
//! request, 4 the report; both are memory of PID 1.
//!
//! Killed at any moment it leaves a store that is whole: names go before what they name, and what no name leads to goes
//! with a later collection.

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use crate::image::Store;
use crate::image::collect::{self as files, Found, Gone};
use crate::pod::collect::{self, Aim, Disk, Facts, Image, Report, Request, Used};

pub fn run() -> i32 {
    let Some((request, mut said)) = super::asked::<Request>() else { return 2 };
    let report = collect(&request, files::now(), disk);
    let text = serde_json::to_vec(&report).unwrap_or_default();
    if said.write_all(&text).is_ok() { 0 } else { 2 }
}

/// What went although the rest failed is told too.
fn collect(request: &Request, now: Duration, disk: fn(&Store) -> io::Result<Disk>) -> Report {
    let mut report = Report::default();
    if let Err(why) = tried(request, now, disk, &mut report) {
        report.trouble = Some(("ImageGCFailed".to_owned(), why));
    }
    report
}

fn tried(
    request: &Request,
    now: Duration,
    disk: fn(&Store) -> io::Result<Disk>,
    report: &mut Report,
) -> Result<(), String> {
    let store = Store::open(request.store.clone());
    if !request.store.exists() {
        return Ok(());
    }
    note(&store, request, now)?;
    let Some(writing) = store.write_now()? else {
        report.busy = true;
        return Ok(());
    };
    // Only now nobody adds any more.
    let all = survey(&store, &request.used)?;
    correct(&store, &all, now);
    let stays = |path: &Path, written: Duration| match collect::corrected(written, now) {
        Some(now) => files::stamp(path, now).is_ok(),
        None => collect::pending(written, now),
    };
    told(report, writing.collect_orphans(&all, stays)?);
    let Some(aim) = request.aim else { return Ok(()) };
    let disk = disk(&store).map_err(|why| why.to_string())?;
    if disk.capacity == 0 {
        let why = "invalid capacity 0 on image filesystem";
        report.trouble = Some(("InvalidDiskCapacity".to_owned(), why.to_owned()));
        return Ok(());
    }
    let images = all.iter().map(image).collect();
    let facts = Facts { disk, images, now, steady: request.steady };
    let verdict = collect::decide(&facts, &request.policy, aim);
    if !verdict.remove.is_empty() {
        told(report, writing.collect(&all, &verdict.remove)?);
    }
    if let (Aim::Thresholds, Some(short)) = (aim, verdict.short()) {
        report.trouble = Some(("FreeDiskSpaceFailed".to_owned(), short));
    }
    Ok(())
}

fn disk(store: &Store) -> io::Result<Disk> {
    store.disk().map(|[capacity, available, reserve]| Disk { capacity, available, reserve })
}

fn survey(store: &Store, used: &Used) -> Result<Vec<Found>, String> {
    store.survey(&used.names, &used.ids)
}

/// Writes down that what is in use, or was since this was last done, was used now.
fn note(store: &Store, request: &Request, now: Duration) -> Result<(), String> {
    let mut used = request.since.clone();
    used.join(&request.used);
    let all = survey(store, &used)?;
    let last = all.iter().filter(|image| !image.in_use).map(|image| image.used).max().unwrap_or_default();
    for image in all.iter().filter(|image| image.in_use) {
        if let Some(time) = collect::noted(image.used, now, last) {
            noted(store.note_use(image, time));
        }
    }
    Ok(())
}

/// A time that cannot be one becomes the present, so that there is an age to count from.
fn correct(store: &Store, all: &[Found], now: Duration) {
    for image in all {
        if let Some(time) = collect::corrected(image.used, now) {
            noted(store.note_use(image, time));
        }
        if let Some(time) = collect::corrected(image.detected, now) {
            noted(store.note_arrival(image, time));
        }
    }
}

/// A time that could not be written costs an image its place in the order, no more.
fn noted(done: io::Result<()>) {
    if let Err(why) = done {
        eprintln!("image store: a use cannot be noted: {why}");
    }
}

fn image(found: &Found) -> Image {
    let Found { id, names, parts, used, detected, pinned, in_use } = found.clone();
    Image { id, names, parts, used, detected, pinned, in_use }
}

fn told(report: &mut Report, gone: Gone) {
    // The files of images are counted by their images.
    let files = if gone.names.is_empty() { gone.files } else { 0 };
    report.images.extend(gone.names);
    (report.files, report.bytes) = (report.files + files, report.bytes + gone.bytes);
}
