//! What holds for any input at all. The fuzz targets of `fuzz/` try it on new inputs, `tests/fuzz.rs` on those that they
//! once found worth keeping.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use podinit::clock::{Tick, Wall};
use podinit::logs::read::{Options, read};
use podinit::logs::record::{Stream, parse as parse_record, render, time};
use podinit::manifest::{Parsed, parse};
use podinit::pod::dns::{self, Dns, effective};
use podinit::pod::spec::{DnsPolicy, Names};
use podinit::pod::{Desired, Fact, Pod, World, plan, project, status};

use crate::spent;

const MIB: usize = 1 << 20;

/// A manifest: from its text to what is wanted, done about it, and told of it.
pub fn manifests(text: &[u8]) {
    let read = || parse(text, "f.yaml", "/etc/kubernetes/manifests/f.yaml", "board1");
    let (parsed, spent) = spent::on(read);
    assert!(spent.peak <= 16 * MIB + 64 * text.len(), "{spent:?} for {} bytes", text.len());
    assert!(spent.calls <= 1_000_000 + 64 * text.len(), "{spent:?} for {} bytes", text.len());
    let again = read();
    assert_eq!(parsed.pods, again.pods, "read twice");
    assert_eq!(parsed.configs, again.configs, "read twice");
    assert_eq!(parsed.problems, again.problems, "read twice");
    // A lone carriage return ends a line of YAML too.
    let breaks = |pair: &&[u8]| pair[0] == b'\n' || pair[0] == b'\r' && pair[1] != b'\n';
    let lines = 1 + [text, b" "].concat().windows(2).filter(breaks).count();
    for problem in &parsed.problems {
        let (said, line) = (problem.to_string(), problem.line as usize);
        assert!(line > 0 && line <= lines, "{said}: line {line} of {lines}");
        assert!(!problem.message.is_empty());
        assert!(!said.chars().any(char::is_control), "{said:?} would not be one line of a log");
        assert!(said.len() < 4096, "{} bytes of message", said.len());
    }
    let ((), spent) = spent::on(|| wanted(parsed));
    assert!(spent.peak <= 64 * MIB, "{spent:?} for {} bytes", text.len());
}

/// What is wanted is taken up, planned for, told of, and comes back from the ledger as it was.
fn wanted(parsed: Parsed) {
    let pods: Vec<Arc<Pod>> = parsed.pods.into_iter().map(Arc::new).collect();
    let configs: Vec<_> = parsed.configs.into_iter().map(Arc::new).collect();
    let projections = project::digests(&pods, &configs);
    let desired = Desired { pods: pods.clone(), configs, projections, ..Desired::default() };
    let mut world = World::default();
    plan(&desired, &world, Tick(0));
    for pod in pods {
        let (uid, fact) = (pod.uid.clone(), Fact::Admitted { pod });
        let line = serde_json::to_string(&fact).expect("a fact is JSON");
        assert_eq!(serde_json::from_str::<Fact>(&line).expect("and is read back"), fact);
        world.learn(fact, Tick::seconds(1));
        world.learn(Fact::SetUp { uid, ip: Some("192.0.2.1".into()) }, Tick::seconds(2));
    }
    plan(&desired, &world, Tick::seconds(3));
    for pod in world.pods.values() {
        status::object(pod, Tick::seconds(3), &Wall::at_boot(0), &status::Node::default());
    }
}

/// A node's resolv.conf: what a pod makes of it keeps the resolver's limits, and is read as it was written.
pub fn resolv_conf(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let (read, spent) = spent::on(|| Dns::parse(&text));
    assert!(spent.peak <= MIB + 64 * text.len(), "{spent:?} for {} bytes", text.len());
    assert!(spent.calls <= 1000 + 8 * text.len(), "{spent:?} for {} bytes", text.len());
    assert_eq!(read, Dns::parse(&text), "read twice");
    let own = match read {
        Ok(own) => own,
        Err(why) => return assert!(why.starts_with("line "), "{why}"),
    };
    let ours = Names {
        servers: vec!["192.0.2.7".into()],
        searches: vec!["ours.example".into()],
        options: vec![("ndots".into(), Some("3".into())), ("debug".into(), None)],
        ..Names::default()
    };
    use DnsPolicy::{ClusterFirst, ClusterFirstWithHostNet, Default as Own, None as Only};
    for (policy, host_network, names, cluster) in [
        (ClusterFirst, false, &ours, true),
        (ClusterFirst, true, &ours, true),
        (ClusterFirstWithHostNet, true, &Names::default(), true),
        (Own, false, &ours, false),
        (Only, false, &ours, false),
    ] {
        let names = Names { dns: policy, ..names.clone() };
        let pod = Pod { namespace: "default".into(), host_network, names, ..Pod::default() };
        let cluster_dns = if cluster { vec!["10.96.0.10".into()] } else { Vec::new() };
        let node = dns::Node { cluster_dns, cluster_domain: "cluster.local".into(), own: Some(own.clone()) };
        let ((dns, left_out), spent) = spent::on(|| effective(&pod, &node));
        assert!(spent.peak <= MIB + 64 * text.len(), "{spent:?} for {} bytes", text.len());
        assert!(dns.servers.len() <= 3 && dns.searches.len() <= 32, "{dns:?}");
        assert!(dns.searches.iter().all(|name| name.len() <= 253), "{dns:?}");
        assert!(dns.searches.join(" ").len() <= 2048, "{dns:?}");
        assert!(left_out.len() <= 2);
        let mut named = BTreeMap::<&str, u32>::new();
        for option in &dns.options {
            *named.entry(option.split(':').next().unwrap_or_default()).or_default() += 1;
        }
        assert!(named.values().all(|times| *times == 1), "an option twice: {:?}", dns.options);
        // A search of several dots loses one at each reading, as with the kubelet.
        let names = dns.searches.iter().filter(|name| *name != ".");
        let searches = names.map(|name| name.strip_suffix('.').unwrap_or(name).to_owned()).collect();
        assert_eq!(Dns::parse(&dns.text()), Ok(Dns { searches, ..dns }));
    }
}

/// A container's log: all of its bytes come back, wherever they were cut; and no file makes the reader stumble.
pub fn cri_log(input: &[u8]) {
    let Some((head, bytes)) = input.split_at_checked(6) else { return };
    let [max, cut, tail, limit, since, flags] = *head else { return };
    let max = usize::from(max);
    let (whole, pieces) =
        (records(bytes, max, bytes.len().max(1)), records(bytes, max, usize::from(cut).max(1)));
    assert_eq!(String::from_utf8_lossy(&whole), String::from_utf8_lossy(&pieces), "cut every {cut}");
    let said = bytes.split_inclusive(|byte| *byte == b'\n').map(|line| match line.strip_suffix(b"\r\n") {
        Some(line) => [line, b"\n"].concat(),
        None => line.to_vec(),
    });
    let file = Scratch::new(&whole);
    let none = Options::default();
    assert_eq!(file.read(&none), said.collect::<Vec<_>>().concat(), "what was written");
    // Any bytes as a log file.
    let file = Scratch::new(bytes);
    let lines: Vec<&[u8]> =
        bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")).collect();
    let printed = |lines: &[&[u8]]| {
        let records = lines.iter().filter_map(|line| parse_record(line));
        records
            .flat_map(|record| [record.content, if record.partial { b"" } else { b"\n" }].concat())
            .collect::<Vec<u8>>()
    };
    let all = printed(&lines);
    assert_eq!(file.read(&none), all);
    let tail = usize::from(tail);
    // What has no newline yet is no line; a long one, in pieces, is one.
    let last: Vec<&[u8]> = all.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(
        file.read(&Options { tail: Some(tail), ..Options::default() }),
        last.get(last.len().saturating_sub(tail)..).unwrap_or_default().concat(),
        "the last {tail}"
    );
    let limit = usize::from(limit);
    let few = file.read(&Options { limit_bytes: Some(limit as u64), ..Options::default() });
    assert_eq!(few, all.get(..limit.min(all.len())).unwrap_or_default(), "{limit} bytes");
    let since =
        (flags & 1 > 0).then(|| Timestamp::from_second(i64::from(since) << 24).expect("within centuries"));
    let timestamps = flags & 2 > 0;
    let much = file.read(&Options { since, timestamps, tail: Some(tail), ..Options::default() });
    assert!(much.len() <= all.len() + 40 * lines.len());
}

/// The log of a stream that came in pieces of `cut` bytes.
fn records(bytes: &[u8], max: usize, cut: usize) -> Vec<u8> {
    let at = time(Timestamp::UNIX_EPOCH);
    let (mut out, mut carry) = (Vec::new(), Vec::new());
    let mut take = |carry: &mut Vec<u8>, end| {
        let taken = render(carry, end, max, &at, Stream::Stderr, &mut out);
        carry.drain(..taken);
        assert!(max == 0 || carry.len() <= max + 1, "{} bytes are kept back", carry.len());
    };
    for piece in bytes.chunks(cut) {
        carry.extend_from_slice(piece);
        take(&mut carry, false);
    }
    take(&mut carry, true);
    assert!(carry.is_empty());
    for line in out.split_inclusive(|byte| *byte == b'\n') {
        let record = parse_record(line).expect("a record");
        assert_eq!((record.stream, record.time), (Stream::Stderr, Timestamp::UNIX_EPOCH));
        assert!(max == 0 || record.content.len() <= max);
    }
    out
}

/// A file with these bytes.
struct Scratch(PathBuf);

impl Scratch {
    fn new(bytes: &[u8]) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let (process, thread) = (std::process::id(), std::thread::current().id());
        let path = folder.join(format!("podinit-fuzz-{process}-{thread:?}"));
        fs::write(&path, bytes).expect("room for it");
        Scratch(path)
    }

    /// What is printed of it.
    fn read(&self, options: &Options) -> Vec<u8> {
        let mut out = Vec::new();
        read(&self.0, options, &mut out).expect("it can be read");
        out
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
