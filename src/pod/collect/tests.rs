//! The kubelet's table of image garbage collection, and what it has no rows for.

use super::*;
use crate::clock::Tick;
use crate::pod::batch::spec::{Cron, Job};
use crate::pod::facts::Fact;
use crate::pod::sample;
use crate::pod::spec::{PullPolicy, RestartPolicy, Volume};

const NOW: u64 = 1_800_000_000;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Seconds before now.
fn ago(seconds: u64) -> Moment {
    Duration::from_secs(NOW - seconds)
}

/// `id part:bytes ... [used] [pinned]`: last used and detected so many seconds ago.
fn image(text: &str, used: u64, detected: u64) -> Image {
    let mut words = text.split(' ');
    let id = words.next().unwrap().to_owned();
    let mut image = Image { names: vec![format!("{id}:1")], id, ..Image::default() };
    for word in words {
        match word.split_once(':') {
            Some((part, bytes)) => drop(image.parts.insert(part.into(), bytes.parse().unwrap())),
            None if word == "used" => image.in_use = true,
            None => image.pinned = word == "pinned",
        }
    }
    (image.used, image.detected) = (ago(used), ago(detected));
    image
}

fn facts(available: u64, images: &[Image]) -> Facts {
    let disk = Disk { capacity: 1000, available, reserve: 0 };
    Facts { disk, images: images.to_vec(), now: Duration::from_secs(NOW), steady: true }
}

/// The kubelet's own in its test.
fn policy() -> Policy {
    Policy { high: 90, low: 80, min_age: Duration::ZERO, max_age: Duration::ZERO }
}

#[test]
fn i3_the_disk_is_brought_from_the_high_threshold_to_the_low_one() {
    let one = |text: &str| vec![image(text, HOUR, DAY)];
    let several = || vec![image("b b:60", 20, 90), image("a a:50", 30, 90), image("c c:500", 10, 90)];
    // What is available of 1000, the images, what goes, what was wanted and had.
    let table: Vec<(&str, u64, Vec<Image>, &[&str], u64, u64)> = vec![
        ("below low", 400, one("a a:50"), &[], 0, 0),
        ("between low and high", 150, one("a a:50"), &[], 0, 0),
        ("just below high, which the kubelet rounds up", 110, one("a a:50"), &[], 0, 0),
        ("at high", 100, one("a a:150"), &["a"], 100, 150),
        ("950 of 1000", 50, one("a a:450"), &["a"], 150, 450),
        ("not enough", 50, one("a a:50"), &["a"], 150, 50),
        ("nothing there", 50, vec![], &[], 150, 0),
        ("full", 0, one("a a:200"), &["a"], 200, 200),
        ("more than there is", 2000, one("a a:200"), &[], 0, 0),
        ("in use", 50, one("a a:450 used"), &[], 150, 0),
        ("pinned", 50, one("a a:450 pinned"), &[], 150, 0),
        ("pinned and in use", 50, one("a a:450 pinned used"), &[], 150, 0),
        (
            "one of two in use",
            50,
            vec![image("a a:450 used", 90, 90), image("b b:450", 1, 90)],
            &["b"],
            150,
            450,
        ),
        (
            "one of two pinned",
            50,
            vec![image("a a:450 pinned", 90, 90), image("b b:450", 1, 90)],
            &["b"],
            150,
            450,
        ),
        ("the least recently used first", 90, several(), &["a", "b"], 110, 110),
        ("and no more than needed", 90, several().into_iter().rev().collect(), &["a", "b"], 110, 110),
        ("all of them", 0, several(), &["a", "b", "c"], 200, 610),
        (
            "a tie: the one that was detected first",
            50,
            vec![image("a a:200", 30, 60), image("b b:200", 30, 90)],
            &["b"],
            150,
            200,
        ),
        (
            "used later beats detected earlier",
            50,
            vec![image("a a:200", 30, 900), image("b b:200", 40, 60)],
            &["b"],
            150,
            200,
        ),
        ("a tie in both: by id", 50, vec![image("b b:200", 9, 9), image("a a:200", 9, 9)], &["a"], 150, 200),
    ];
    for (case, available, images, remove, wanted, freed) in table {
        let verdict = decide(&facts(available, &images), &policy(), Aim::Thresholds);
        assert_eq!((verdict.remove, verdict.wanted, verdict.freed), (words(remove), wanted, freed), "{case}");
    }
    let short = decide(&facts(50, &one("a a:50")), &policy(), Aim::Thresholds).short();
    let told = "Failed to garbage collect required amount of images. Attempted to free 150 bytes, but only found 50 bytes \
                eligible to free.";
    assert_eq!(short.as_deref(), Some(told));
    assert_eq!(decide(&facts(50, &one("a a:150")), &policy(), Aim::Thresholds).short(), None);
}

#[test]
fn i3_thresholds_are_percents_of_any_disk_and_100_disables() {
    let huge = u64::MAX / 2;
    // Capacity, available, high, low: whether it is over, and how much is to go.
    for (capacity, available, high, low, is_over, wanted) in [
        (1000, 150, 85, 80, true, 50),
        (1000, 151, 85, 80, true, 49),
        (1000, 159, 85, 80, true, 41),
        (1000, 160, 85, 80, false, 0),
        (1000, 0, 100, 80, false, 0),
        (1000, 0, 99, 0, true, 1000),
        (1000, 1000, 0, 0, true, 0),
        (1000, 1000, 1, 0, false, 0),
        (0, 0, 85, 80, true, 0),
        (huge, huge / 10, 85, 80, true, huge / 5 - huge / 10),
        (u64::MAX, 0, 85, 80, true, u64::MAX / 5),
    ] {
        let policy = Policy { high, low, ..policy() };
        let mut facts = facts(0, &[]);
        facts.disk = Disk { capacity, available, reserve: 0 };
        assert_eq!(over(&policy, &facts.disk), is_over, "{capacity} {available} {high}");
        let found = decide(&facts, &policy, Aim::Thresholds).wanted;
        assert!(found.abs_diff(wanted) <= 1, "{capacity} {available} {high} {low}: {found}, not {wanted}");
    }
}

#[test]
fn i3_none_is_younger_than_the_minimum_and_the_maximum_makes_old() {
    let (minute, two) = (Duration::from_secs(60), Duration::from_secs(120));
    let policy = |min_age, max_age| Policy { min_age, max_age, ..policy() };
    let days = |days| Duration::from_secs(days * DAY);
    let one = |used, detected| vec![image("a a:450", used, detected)];
    let both = vec![image("old o:10", 8 * DAY, 9 * DAY), image("new n:10", 6 * DAY, 9 * DAY)];
    let kept = vec![image("u u:10 used", 9 * DAY, 9 * DAY), image("p p:10 pinned", 9 * DAY, 9 * DAY)];
    let table: Vec<(&str, u64, Policy, Vec<Image>, &[&str])> = vec![
        ("younger", 50, policy(two, days(0)), one(90, 119), &[]),
        ("as old", 50, policy(two, days(0)), one(90, 120), &["a"]),
        ("of this moment", 50, policy(minute, days(0)), one(0, 0), &[]),
        ("no minimum", 50, policy(Duration::ZERO, days(0)), one(0, 0), &["a"]),
        (
            "an old one is passed over for a younger",
            50,
            policy(two, days(0)),
            [one(90, 100), vec![image("b b:450", 10, 300)]].concat(),
            &["b"],
        ),
        (
            "unused for longer than the maximum, on an empty disk",
            900,
            policy(two, days(7)),
            both.clone(),
            &["old"],
        ),
        ("not longer", 900, policy(two, days(8)), both.clone(), &[]),
        ("0 disables", 900, policy(two, days(0)), both.clone(), &[]),
        ("in use or pinned never", 900, policy(two, days(7)), kept, &[]),
        ("what went by age counts for the disk", 100, policy(two, days(7)), both.clone(), &["old"]),
        ("and more goes where that is not enough", 85, policy(two, days(7)), both.clone(), &["old", "new"]),
    ];
    for (case, available, policy, images, remove) in table {
        let verdict = decide(&facts(available, &images), &policy, Aim::Thresholds);
        assert_eq!(verdict.remove, words(remove), "{case}");
    }
    let mut jumped = facts(900, &both);
    jumped.steady = false;
    let policy = policy(two, days(7));
    assert_eq!(decide(&jumped, &policy, Aim::Thresholds), Verdict::default(), "the clock has just jumped");
}

#[test]
fn i3_shared_layers_are_freed_with_their_last_image() {
    let table: Vec<(&str, u64, Vec<Image>, &[&str], u64)> = vec![
        (
            "each has its own beside the shared one",
            50,
            vec![
                image("a base:100 a:80", 30, 90),
                image("b base:100 b:20", 20, 90),
                image("c c:900", 10, 90),
            ],
            &["a", "b"],
            200,
        ),
        (
            "shared with one in use: only the rest counts",
            50,
            vec![image("a base:400 a:10", 30, 90), image("b base:400 used", 20, 90)],
            &["a"],
            10,
        ),
        (
            "nothing of its own: stays, as it gives nothing back",
            50,
            vec![image("a base:400", 30, 90), image("b base:400 b:9 used", 20, 90), image("c c:300", 10, 90)],
            &["c"],
            300,
        ),
        (
            "shared with a pinned one",
            50,
            vec![image("a base:400", 30, 90), image("b base:400 pinned", 20, 90)],
            &[],
            0,
        ),
        (
            "one that gave nothing because the other's turn did not come stays",
            50,
            vec![image("a x:500", 40, 90), image("b b:150", 30, 90), image("c x:500", 20, 90)],
            &["b"],
            150,
        ),
        (
            "it goes where the other's turn comes",
            50,
            vec![image("a x:500", 40, 90), image("b b:50", 30, 90), image("c x:500", 20, 90)],
            &["a", "b", "c"],
            550,
        ),
        (
            "a layer counts once, however often it is named",
            50,
            vec![image("a x:100", 40, 90), image("b x:100", 30, 90), image("c x:100", 20, 90)],
            &["a", "b", "c"],
            100,
        ),
    ];
    for (case, available, images, remove, freed) in table {
        let verdict = decide(&facts(available, &images), &policy(), Aim::Thresholds);
        assert_eq!((verdict.remove, verdict.freed), (words(remove), freed), "{case}");
    }
}

#[test]
fn i3_a_pull_gets_the_room_that_it_needs_or_nothing_goes() {
    let images = [
        image("a a:100", 40, 90),
        image("b b:100", 30, 90),
        image("c c:100", 20, 90),
        image("u u:500 used", 90, 90),
    ];
    let room = |least, wanted| Aim::Room { least, wanted };
    // Available, the reserve, the need, what goes.
    for (available, reserve, aim, remove) in [
        (100, 0, room(50, 100), &[][..]),
        (100, 0, room(50, 101), &["a"]),
        (100, 0, room(150, 250), &["a", "b"]),
        (100, 0, room(150, 0), &["a"]),
        (100, 100, room(10, 10), &["a"]),
        (0, 100, room(1, 1), &["a", "b"]),
        // The most that can be had is less than is thought to be needed, and may do.
        (0, 0, room(200, 900), &["a", "b", "c"]),
        (0, 0, room(300, 900), &["a", "b", "c"]),
        // It is less than is known to be needed.
        (0, 0, room(301, 900), &[]),
        (0, u64::MAX, room(1, 1), &[]),
        (0, 0, room(u64::MAX, u64::MAX), &[]),
    ] {
        let mut facts = facts(available, &images);
        facts.disk.reserve = reserve;
        // Far below the threshold: a pull asks for itself.
        let policy = Policy { high: 99, low: 98, ..policy() };
        assert_eq!(decide(&facts, &policy, aim).remove, words(remove), "{available} {reserve} {aim:?}");
    }
    let all = decide(&facts(900, &images), &policy(), Aim::All);
    assert_eq!((all.short(), all.freed, all.remove), (None, 300, words(&["a", "b", "c"])));
}

#[test]
fn i3_a_clock_that_is_not_set_or_jumps_makes_nothing_old() {
    let at = |seconds: u64| Duration::from_secs(seconds);
    let with = |now: u64, used: u64, detected: u64| {
        let mut image = image("a a:450", 0, 0);
        (image.used, image.detected) = (at(used), at(detected));
        Facts { now: at(now), ..facts(50, &[image]) }
    };
    let (week, policy) = (7 * DAY, Policy { min_age: at(120), max_age: at(7 * DAY), ..policy() });
    // Now, last used, detected: whether it goes for its age, and whether for the disk's sake.
    for (case, now, used, detected, aged, freed) in [
        ("all is well", NOW, NOW - HOUR, NOW - DAY, false, true),
        ("really old", NOW, NOW - week - 1, NOW - week - 1, true, false),
        ("pulled before the clock was set, a moment ago", NOW, 300, 300, false, false),
        ("used before it was set, detected after", NOW, 300, NOW - HOUR, false, true),
        ("from the future, by a clock that was wrong", NOW, NOW + week, NOW + week, false, false),
        ("not set in this boot: images are of an earlier one", 500, NOW - week, NOW - week, false, true),
        ("never set: pulled a minute ago", 500, 440, 440, false, false),
        ("never set: pulled long ago", 500, 100, 100, false, true),
        ("never set: pulled in a longer boot", 500, 90_000, 90_000, false, true),
        ("never set, and up for a month", 40 * DAY, 100, 100, false, true),
    ] {
        let facts = with(now, used, detected);
        let room = Facts { disk: Disk { available: 900, ..facts.disk }, ..facts.clone() };
        assert_eq!(decide(&room, &policy, Aim::Thresholds).remove.len(), usize::from(aged), "{case}: age");
        let removed = !decide(&facts, &policy, Aim::Thresholds).remove.is_empty();
        assert_eq!(removed, aged || freed, "{case}: disk");
    }
    // A time that cannot be one is written anew, and counts from there on.
    for (now, moment, expected) in [
        (NOW, 300, Some(NOW)),
        (NOW, NOW + 1, Some(NOW)),
        (NOW, NOW, None),
        (NOW, NOW - week, None),
        (500, 300, None),
        (500, NOW, None),
    ] {
        assert_eq!(corrected(at(moment), at(now)), expected.map(at), "{now} {moment}");
    }
    let order = |used: [u64; 2]| {
        let [a, b] = used.map(|used| {
            let mut image = image("x x:200", 0, DAY);
            image.used = at(used);
            image
        });
        let images = [
            Image { id: "a".into(), ..a },
            Image { id: "b".into(), parts: BTreeMap::from([("b".into(), 200)]), ..b },
        ];
        decide(&facts(50, &images), &super::tests::policy(), Aim::Thresholds).remove
    };
    assert_eq!(order([NOW - 5, NOW - 9]), ["b"]);
    assert_eq!(order([300, NOW - 9]), ["b"], "what is not known is as if it were of now");
    assert_eq!(order([NOW + 9, NOW + 5]), ["b"], "and keeps its order");
}

#[test]
fn i3_a_use_is_noted_seldom_and_in_order_also_without_a_clock() {
    let at = |seconds: u64| Duration::from_secs(seconds);
    // When it was used, now, the latest of those that are not in use: what is written.
    for (used, now, last, expected) in [
        (NOW, NOW, NOW, None),
        (NOW - HOUR + 1, NOW, NOW - 5, None),
        (NOW - HOUR, NOW, 0, Some(NOW)),
        (NOW - 300 * DAY, NOW, 0, Some(NOW)),
        (NOW + DAY, NOW, 0, Some(NOW)),
        (300, NOW, 0, Some(NOW)),
        // Not set: after all that nobody uses.
        (300, 500, 100, None),
        (100, 500, 300, Some(500)),
        (100, 500, 700, Some(701)),
        (NOW, 500, NOW - DAY, None),
        (100, 500, NOW, Some(NOW + 1)),
        (701, 900, 700, None),
    ] {
        assert_eq!(noted(at(used), at(now), at(last)), expected.map(at), "{used} {now} {last}");
    }
    // A file of a pull that failed stays for a day.
    for (written, now, stays) in [
        (NOW - DAY + 1, NOW, true),
        (NOW - DAY, NOW, false),
        (300, NOW, true),
        (NOW + 9, NOW, true),
        (NOW, 500, true),
        (300, 500, true),
        (300, 2 * DAY, false),
    ] {
        assert_eq!(pending(at(written), at(now)), stays, "{written} {now}");
    }
}

#[test]
fn i3_in_use_is_what_any_wanted_pod_names_and_any_present_one_runs_from() {
    let pod = |name: &str| {
        let mut pod = (*sample::pod(RestartPolicy::Always, &["init"], &[name])).clone();
        pod.uid = name.to_owned();
        let source = VolumeSource::Image { reference: format!("{name}-data:1"), pull: PullPolicy::Never };
        pod.volumes = vec![Volume { name: "v".into(), source }];
        std::sync::Arc::new(pod)
    };
    let job = |name: &str| std::sync::Arc::new(Job { pod: pod(name), uid: name.into(), ..Job::default() });
    let cron = std::sync::Arc::new(Cron { job: job("cron"), ..Cron::default() });
    let desired =
        Desired { pods: vec![pod("web")], jobs: vec![job("job")], crons: vec![cron], ..Desired::default() };
    let found = wanted(&desired);
    let names = |names: &[&str]| names.iter().map(|name| format!("{name}:1")).collect::<BTreeSet<_>>();
    assert_eq!(found.names, names(&["init", "web", "web-data", "job", "job-data", "cron", "cron-data"]));
    assert!(found.ids.is_empty());

    let mut world = World::default();
    let now = Tick::seconds(1);
    world.learn(Fact::Admitted { pod: pod("old") }, now);
    let (uid, container, id) = ("old".to_owned(), "old".to_owned(), "sha256:x".to_owned());
    world.learn(Fact::ImageFound { uid, container, id, pulled: None }, now);
    world.learn(Fact::Dismissed { uid: "old".into(), why: facts::Dismissal::Removed }, now);
    let (reason, message) = ("OutOfcpu".to_owned(), String::new());
    world.learn(Fact::Rejected { pod: pod("large"), reason, message }, now);
    let there = present(&world);
    assert_eq!(there.names, names(&["init", "old", "old-data", "large", "large-data"]));
    assert_eq!(there.ids, BTreeSet::from(["sha256:x".to_owned()]));
    let mut all = found.clone();
    all.join(&there);
    assert!(all.covers(&found) && all.covers(&there) && !found.covers(&there) && !there.covers(&found));
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
