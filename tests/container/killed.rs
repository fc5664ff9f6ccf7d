//! SIGKILL of the start helper at any moment: nothing of the container is left.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podinit::container::{Outcome, cgroup, handover};

use super::Test;
use super::machine::{pod_cgroup, reap_all, run, wait};

pub const TESTS: &[Test] = &[("a_killed_start_leaves_nothing", killed)];

const MOMENTS: u32 = 150;

fn killed() {
    let mut random = fastrand::Rng::with_seed(2);
    // How long a whole start takes here and now: moments are spread over that and a little more. It follows what they
    // meet, as the machine may become slower or faster meanwhile.
    let begin = Instant::now();
    let first = run("first", &["true"]);
    let (outcome, ..) = first.start();
    assert!(matches!(outcome, Outcome::Started { .. }), "{outcome:?}");
    let mut whole = begin.elapsed();
    reap_all();
    first.clean();
    first.is_gone();

    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let mut seen = BTreeSet::new();
    for number in 0..MOMENTS {
        let one = run(&format!("k{number}"), &["sleep", "1000"]);
        let spec = one.spec();
        drop(spec);
        let (helper, ..) = one.helper();
        std::thread::sleep(Duration::from_secs_f64(whole.as_secs_f64() * 1.2 * random.f64()));
        // The helper may have ended already: that too is a moment.
        kill(Pid::from_raw(helper), Signal::SIGKILL).expect("kill: it is unreaped");
        wait(helper);

        let outcome = handover::outcome(&one.bundle());
        seen.insert(match outcome {
            Outcome::Silent if one.leaf().exists() => "half",
            Outcome::Silent => {
                whole = whole.mul_f64(1.05);
                "early"
            }
            Outcome::Started { .. } => {
                whole = whole.div_f64(1.05);
                "started"
            }
            Outcome::Failed(why) => panic!("moment {number}: {why:?}"),
        });
        // What PID 1 does then.
        cgroup::kill(&one.helper_cgroup()).expect("kill the helper's");
        cgroup::kill(&one.leaf()).expect("kill the container's");
        reap_all();
        cgroup::remove(&one.helper_cgroup()).expect("remove the helper's");
        cgroup::remove(&one.leaf()).expect("remove the container's");
        handover::forget(&one.state(), &one.id).expect("forget");

        one.is_gone();
        assert_eq!(cgroup::pids(&pod_cgroup()).expect("pids"), Vec::<i32>::new(), "moment {number}");
        let left = fs::read_dir(pod_cgroup()).expect("pod").filter_map(Result::ok);
        assert_eq!(
            left.filter(|entry| entry.path().is_dir()).count(),
            0,
            "moment {number}: a cgroup is left"
        );
        let now = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert_eq!(now, mounts, "moment {number}: a mount is left");
    }
    assert!(seen.contains("half"), "no moment met a half-made container: {seen:?}");
}
