//! Which of the machine's user and group ids a pod with `hostUsers: false` has: one block for each, none twice.
//!
//! Source: Kubernetes v1.36, pkg/kubelet/userns and pkg/kubelet/kubelet_pods.go.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::World;

/// A pod's block: its 0 and up are the machine's `first` and up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    pub first: u32,
    pub count: u32,
}

impl Ids {
    /// The machine's number for one of the pod's; None: the pod has none of that number.
    pub fn machine(self, id: u32) -> Option<u32> {
        (id < self.count).then(|| self.first.checked_add(id)).flatten()
    }
}

/// The least that a pod gets, and what its count is a multiple of.
pub const BLOCK: u32 = 65_536;

/// Whose lines of /etc/subuid and /etc/subgid count.
const OWNER: &str = "kubelet";

/// What blocks are taken from: the first id, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub first: u32,
    pub length: u32,
}

impl Range {
    /// What the machine's files give to the kubelet (the same of both kinds); without a line of his, all ids but those
    /// of the first block, which are the machine's own. `subuid`, `subgid`: the files' texts.
    pub fn of(subuid: &str, subgid: &str, per_pod: u32, pods: u64) -> Result<Range, String> {
        let (users, groups) = (entry("/etc/subuid", subuid)?, entry("/etc/subgid", subgid)?);
        if users != groups {
            return Err(format!("mismatched subuids and subgids for user {OWNER:?}"));
        }
        let Some(Range { first, length }) = users else {
            return Ok(Range { first: per_pod, length: 0_u32.wrapping_sub(per_pod) });
        };
        let wrong = |what: &str| Err(format!("{OWNER} user assigned {what}"));
        if per_pod == 0 || !first.is_multiple_of(per_pod) {
            return wrong(&format!("ID {first} is not a multiple of {per_pod}"));
        }
        // The machine's own would be the pod's.
        if first < per_pod {
            return wrong(&format!("ID {first} must be greater or equal to {per_pod}"));
        }
        if !length.is_multiple_of(per_pod) {
            return wrong(&format!("IDs length {length} is not a multiple of {per_pod}"));
        }
        if u64::from(length / per_pod) < pods {
            return wrong(&format!("IDs are not enough to support {pods} pods"));
        }
        Ok(Range { first, length })
    }

    /// The lowest block that no pod of the world has, though it may have been of another size when it was given.
    pub fn allot(self, world: &World, per_pod: u32) -> Result<Ids, String> {
        let taken: BTreeSet<(u32, u32)> =
            world.pods.values().filter_map(|pod| pod.ids).map(|ids| (ids.first, ids.count)).collect();
        let end = u64::from(self.first) + u64::from(self.length);
        let mut first = u64::from(self.first);
        for (other, count) in taken {
            let (other, end) = (u64::from(other), u64::from(other) + u64::from(count));
            if other < first + u64::from(per_pod) && first < end {
                first = end;
            }
        }
        // The kernel maps no block that ends with the last of all numbers, which means nobody.
        let fits = per_pod > 0 && first + u64::from(per_pod) <= end.min(u64::from(u32::MAX));
        let first = u32::try_from(first).ok().filter(|_| fits);
        first
            .map(|first| Ids { first, count: per_pod })
            .ok_or_else(|| "could not find an empty slot to allocate a user namespace".to_owned())
    }
}

/// The owner's only line: `kubelet:65536:7208960` (subuid(5)).
fn entry(file: &str, text: &str) -> Result<Option<Range>, String> {
    let mut lines =
        text.lines().filter_map(|line| Some((line, line.strip_prefix(OWNER)?.strip_prefix(':')?)));
    let Some((line, rest)) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(format!("{file}: more than one line of user {OWNER:?}: keep one"));
    }
    let range = rest
        .split_once(':')
        .and_then(|(first, length)| Some(Range { first: number(first)?, length: number(length)? }));
    range.map(Some).ok_or_else(|| {
        format!("{file}: {line:?} is not like {OWNER}:65536:7208960, a first id and how many there are")
    })
}

/// Digits and nothing else: no sign, no space.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Tick;
    use crate::pod::facts::Fact;
    use crate::pod::sample;
    use crate::pod::spec::{Pod, RestartPolicy};

    /// User namespace ranges. The kubelet asks a tool that prints the same numbers of the same file; here the file itself is read.
    #[test]
    fn h8_the_machines_files_give_a_range() {
        let table = [
            ("", Ok(None)),
            ("root:1:2\nkubelets:65536:1\n", Ok(None)),
            ("kubelet:65536:2147483648", Ok(Some(Range { first: 65_536, length: 1 << 31 }))),
            ("me:1:2\nkubelet:65536:2147483648\n", Ok(Some(Range { first: 65_536, length: 1 << 31 }))),
            ("kubelet:1:2\nkubelet:3:4", Err("more than one line")),
            ("kubelet:65536", Err("is not like kubelet:65536:7208960")),
            ("kubelet:", Err("is not like")),
            ("kubelet:Foo:65536", Err("is not like")),
            ("kubelet:0:Bar", Err("is not like")),
            ("kubelet:4294967296:2147483648", Err("is not like")),
            ("kubelet:65536:4294967296", Err("is not like")),
            ("kubelet:-1:2147483648", Err("is not like")),
            ("kubelet:65536:-1", Err("is not like")),
            ("kubelet:+65536:65536", Err("is not like")),
            ("kubelet:65536:65536:1", Err("is not like")),
        ];
        for (text, expected) in table {
            match (entry("f", text), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text:?}"),
                (Err(why), Err(expected)) => assert!(why.contains(expected), "{text:?}: {why}"),
                (found, _) => panic!("{text:?}: {found:?}"),
            }
        }
    }

    /// pkg/kubelet/userns: TestMakeUserNsManager, TestUserNsManagerAllocate.
    #[test]
    fn a_range_must_hold_whole_blocks_for_all_pods() {
        let both = |line: &str| Range::of(line, line, BLOCK, 110);
        let all = Range { first: 65_536, length: 4_294_901_760 };
        assert_eq!(both(""), Ok(all));
        assert_eq!(Range::of("", "", 2 * BLOCK, 110), Ok(Range { first: 131_072, length: 4_294_836_224 }));
        assert_eq!(both("kubelet:131072:7208960"), Ok(Range { first: 131_072, length: 7_208_960 }));
        let table = [
            ("kubelet:1:7208960", "kubelet user assigned ID 1 is not a multiple of 65536"),
            ("kubelet:0:7208960", "kubelet user assigned ID 0 must be greater or equal to 65536"),
            ("kubelet:65536:7208961", "kubelet user assigned IDs length 7208961 is not a multiple of 65536"),
            ("kubelet:65536:7143424", "kubelet user assigned IDs are not enough to support 110 pods"),
        ];
        for (line, expected) in table {
            assert_eq!(both(line), Err(expected.to_owned()));
        }
        let one = Range::of("kubelet:65536:7208960", "", BLOCK, 110);
        assert_eq!(one, Err("mismatched subuids and subgids for user \"kubelet\"".to_owned()));
    }

    #[test]
    fn each_pod_has_a_block_until_it_is_gone() {
        let mut world = World::default();
        let range = Range { first: BLOCK, length: 3 * BLOCK };
        let allot = |world: &mut World, uid: &str, per_pod: u32| {
            let pod = Pod { uid: uid.into(), ..(*sample::pod(RestartPolicy::Always, &[], &["c"])).clone() };
            world.learn(Fact::Admitted { pod: pod.into() }, Tick(0));
            let ids = range.allot(world, per_pod)?;
            world.learn(Fact::Allotted { uid: uid.into(), ids }, Tick(0));
            Ok::<_, String>((ids.first / BLOCK, ids.count / BLOCK))
        };
        assert_eq!(allot(&mut world, "a", BLOCK), Ok((1, 1)));
        assert_eq!(allot(&mut world, "b", BLOCK), Ok((2, 1)));
        assert_eq!(allot(&mut world, "c", BLOCK), Ok((3, 1)));
        let none = "could not find an empty slot to allocate a user namespace".to_owned();
        assert_eq!(allot(&mut world, "d", BLOCK), Err(none.clone()));
        // Told again after a death, it is kept; and so over a snapshot.
        let again = Ids { first: 9, count: 9 };
        world.learn(Fact::Allotted { uid: "b".into(), ids: again }, Tick(1));
        let text = serde_json::to_string(&world).expect("a snapshot");
        let mut world: World = serde_json::from_str(&text).expect("a world");
        assert_eq!(world.pods["b"].ids, Some(Ids { first: 2 * BLOCK, count: BLOCK }));
        world.learn(Fact::TornDown { uid: "b".into() }, Tick(2));
        assert_eq!(allot(&mut world, "d", BLOCK), Ok((2, 1)));
        // Another size, by an edit of the configuration.
        world.learn(Fact::TornDown { uid: "a".into() }, Tick(3));
        assert_eq!(allot(&mut world, "e", 2 * BLOCK), Err(none.clone()));
        world.learn(Fact::TornDown { uid: "d".into() }, Tick(4));
        assert_eq!(allot(&mut world, "e", 2 * BLOCK), Ok((1, 2)));
        // The last of all ids is nobody's.
        let last = Range { first: u32::MAX - BLOCK + 1, length: BLOCK };
        assert_eq!(last.allot(&World::default(), BLOCK), Err(none));
    }

    #[test]
    fn a_pods_id_is_one_of_its_block() {
        let ids = Ids { first: 131_072, count: BLOCK };
        assert_eq!(
            [0, 33, 65_535, 65_536].map(|id| ids.machine(id)),
            [Some(131_072), Some(131_105), Some(196_607), None]
        );
    }
}
