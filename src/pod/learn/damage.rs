//! What becomes of a container whose image was found damaged.

use crate::clock::Tick;
use crate::pod::facts::{ContainerFacts, Damaged, Image};

/// Whether it was told before the damage that is known, which it does not tell anything of.
pub(super) fn is_older(facts: &ContainerFacts, now: Tick) -> bool {
    facts.damaged.as_ref().is_some_and(|damaged| damaged.since > now)
}

/// From now on the image counts as one that nobody has looked for. A pull that is under way brings it.
pub(super) fn damaged(facts: &mut ContainerFacts, what: &str, layer: bool, now: Tick) -> bool {
    if facts.harmed >= Some(now) {
        return false;
    }
    facts.harmed = Some(now);
    let layer = layer || facts.damaged.as_ref().is_some_and(|known| known.layer);
    facts.damaged = Some(Damaged { since: now, what: what.to_owned(), layer });
    match facts.image {
        // Another store may have brought what was missing.
        Image::Found { .. } | Image::Missing { .. } => facts.image = Image::Unknown,
        Image::Unknown | Image::Pulling { .. } => {}
    }
    true
}

/// The image is whole again. What runs from it has the former file, and whatever it crashed for may have been that: its
/// crashes are forgiven, and the next start waits for nothing.
pub(super) fn mended(facts: &mut ContainerFacts, now: Tick) {
    let Some(damaged) = facts.damaged.take() else { return };
    (facts.step, facts.stepped) = (0, None);
    if let Some(run) = facts.run.as_mut().filter(|run| damaged.layer || !run.live()) {
        run.worn.get_or_insert(now);
    }
}
