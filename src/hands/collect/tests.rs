//! When a collection is told, cut short, begun for a pull, and what a clock is worth to it.

use std::collections::BTreeSet;

use super::*;
use crate::pod::collect::Policy;
use crate::pod::facts::{Event, PodFacts};
use crate::pod::sample;
use crate::pod::spec::RestartPolicy;

fn flight(aim: Option<Aim>, used: &[&str]) -> Flight {
    let names = used.iter().map(|name| (*name).to_owned()).collect();
    let used = Used { names, ids: BTreeSet::new() };
    let (policy, since) = (Policy::default(), Used::default());
    let request = Request { store: PathBuf::new(), policy, aim, used, since, steady: false };
    let answer = talk::memory(c"answer").unwrap();
    // A number that no process has.
    Flight { helper: i32::MAX, late: Tick::seconds(600), killed: false, request, answer }
}

fn pull(image: &str) -> Pull {
    Pull { image: image.to_owned(), secrets: Vec::new() }
}

#[test]
fn i3_trouble_is_one_event_for_each_reason_and_a_failure_from_the_second_on() {
    let mut hands = Hands::idle(&Config::default());
    let mut world = World::default();
    let report = |trouble: Option<(&str, &str)>| Report {
        trouble: trouble.map(|(reason, message)| (reason.to_owned(), message.to_owned())),
        ..Report::default()
    };
    let short = |bytes: &str| report(Some(("FreeDiskSpaceFailed", bytes)));
    let mut told = |seconds: u64, report: &Report| {
        let now = Tick::seconds(seconds);
        let facts = hands.tell_collected(report, Some(Aim::Thresholds), false, now);
        facts.into_iter().for_each(|fact| world.learn(fact, now));
        let event = |event: &Event| (event.reason.clone(), event.message.clone(), event.count);
        world.events.iter().map(event).collect::<Vec<_>>()
    };
    let event = |reason: &str, message: &str, count| (reason.to_owned(), message.to_owned(), count);
    let (free, failed) = ("FreeDiskSpaceFailed", "ImageGCFailed");
    assert_eq!(told(10, &short("1")), [event(free, "1", 1)]);
    assert_eq!(told(310, &short("2")), [event(free, "1", 1), event(failed, "2", 1)]);
    assert_eq!(told(610, &short("3")), [event(free, "1", 1), event(failed, "2", 1)], "not each time");
    let later = [event(free, "4", 2), event(failed, "4", 2)];
    assert_eq!(told(4000, &short("4")), later, "the message is the newest");
    told(4300, &report(None));
    assert_eq!(told(8000, &report(Some((failed, "no store")))), later, "once is nothing");
    assert_eq!(
        told(8300, &report(Some((failed, "no store")))),
        [later[0].clone(), event(failed, "no store", 3)]
    );
    let busy = Report { busy: true, ..Report::default() };
    assert_eq!(told(8600, &busy).len(), 2);
    assert_eq!(hands.collection.due, Tick::seconds(8600) + hands.config.file_check);
}

#[test]
fn i3_a_pod_that_came_meanwhile_waits_for_the_end_of_a_collection_and_cuts_it_short() {
    let pod = sample::pod(RestartPolicy::Always, &[], &["a"]);
    // The aim, what is known to be in use: whether the container waits.
    for (aim, used, waits) in [
        (Some(Aim::Thresholds), &["b:1"][..], true),
        (Some(Aim::Thresholds), &["a:1", "b:1"], false),
        (None, &[], false),
    ] {
        let mut hands = Hands::idle(&Config::default());
        assert!(!hands.held_back(&pod, &pod.containers[0]), "nobody collects");
        hands.collection.flight = Some(flight(aim, used));
        assert_eq!(hands.held_back(&pod, &pod.containers[0]), waits, "{aim:?} {used:?}");
        assert_eq!(hands.collection.flight.as_ref().unwrap().killed, waits);
        // A listing tells of what is only to come.
        hands.collection.flight = Some(flight(aim, used));
        let mut wanted = Used::default();
        wanted.pod(&pod);
        hands.want_images(wanted, true);
        assert_eq!(hands.collection.flight.as_ref().unwrap().killed, waits);
    }
    let mut hands = Hands::idle(&Config::default());
    hands.collection.flight = Some(flight(Some(Aim::All), &[]));
    let mut world = World::default();
    let now = Tick::seconds(1);
    world.pods.insert(pod.uid.clone(), PodFacts::new(pod.clone(), now));
    let found = hands.find(&world.pods["u1"], &pod.containers[0]);
    assert!(matches!(&found[..], [Fact::ImagePulling { .. }]), "{found:?}");
    found.into_iter().for_each(|fact| world.learn(fact, now));
    let ended = Ended { code: 137, signal: Some(9) };
    assert_eq!(hands.collected(1, ended, &world), None, "another child");
    // Its image is not in this store, so it is pulled.
    let facts = hands.collected(i32::MAX, ended, &world).unwrap();
    assert!(matches!(&facts[..], [Fact::ImagePulling { .. }]), "{facts:?}");
    assert!(hands.collection.flight.is_none() && hands.collection.waiting.is_empty());
}

#[test]
fn i3_room_is_made_some_times_for_one_pull_and_more_each_time() {
    let mut hands = Hands::idle(&Config { root: std::env::temp_dir(), ..Config::default() });
    let mut last = 0;
    for _ in 0..ROOMS {
        assert!(hands.make_room(&pull("x:1"), 1 << 50, "full") && hands.collection.makes_room());
        let (aim, _) = hands.collection.full.remove(&pull("x:1")).unwrap();
        let Aim::Room { least, wanted } = aim else { panic!("{aim:?}") };
        assert!(least == 1 << 50 && wanted > last && wanted >= 3 * least, "{aim:?}");
        last = wanted;
    }
    assert!(!hands.make_room(&pull("x:1"), 1 << 50, "full"), "its failure is told now");
    assert!(hands.make_room(&pull("x:1"), 1 << 50, "full"), "and the next try begins anew");
    hands.collection.policy.high = 100;
    assert!(!hands.make_room(&pull("y:1"), 1, "full"), "100 disables");
    hands.collection.policy.high = 85;
    hands.collect_no_more();
    assert!(!hands.make_room(&pull("y:1"), 1, "full"), "nothing is wanted any more");
}

#[test]
fn i3_a_clock_that_jumps_is_believed_again_after_an_hour() {
    let mut collection = Collection::new(&Config::default());
    let at = |hours: i64| Wall::at_boot(1_800_000_000 + hours * 3600);
    // Hours of the wall clock at boot, of this life; whether ages are believed.
    for (clock, hours, steady) in [
        (0, 0, false),
        (0, 1, true),
        (0, 2, true),
        (9000, 2, false),
        (9000, 3, true),
        (0, 3, false),
        (0, 4, true),
    ] {
        let now = Tick::seconds(hours * 3600);
        assert_eq!(collection.steady(&at(clock), now), steady, "{clock} {hours}");
    }
    let little = Wall::at_boot(1_800_000_000 + 3599);
    assert!(collection.steady(&little, Tick::seconds(4 * 3600)), "put right by less than an hour");
}
