//! The machine's duties against a real kernel, as far as that goes without being PID 1.

use std::fs;
use std::net::Ipv4Addr;

use nix::sched::{CloneFlags, unshare};
use podinit::config::{Config, Data};
use podinit::net::link;
use podinit::net::netlink::Netlink;

/// Each test has its own thread, so that its network namespace is nobody else's.
fn own_network() {
    unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root, for a network namespace of its own");
}

fn routes() -> Vec<String> {
    let text = fs::read_to_string("/proc/thread-self/net/route").unwrap();
    let fields = |line: &str| line.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
    text.lines().skip(1).map(fields).collect()
}

#[test]
fn loopback_addresses_and_routes_come_and_go() {
    own_network();
    link::loopback_up().unwrap();
    let netlink = Netlink::open(0).unwrap();
    let lo = link::links(&netlink).unwrap().into_iter().find(|link| link.name == "lo").unwrap();
    assert!(lo.up && lo.carrier);
    let address = Ipv4Addr::new(10, 9, 0, 1);
    link::add_address(&netlink, lo.index, address, 24, Some(100)).unwrap();
    // Said again it prolongs.
    link::add_address(&netlink, lo.index, address, 24, Some(200)).unwrap();
    let other = (Ipv4Addr::new(10, 8, 0, 0), 16);
    let direct = Ipv4Addr::UNSPECIFIED;
    link::add_route(&netlink, lo.index, other, direct, address).unwrap();
    assert!(routes().contains(&"lo 0000080A 00000000".to_owned()), "{:?}", routes());
    link::remove_route(&netlink, lo.index, other, direct).unwrap();
    assert!(!routes().contains(&"lo 0000080A 00000000".to_owned()), "{:?}", routes());
    link::remove_address(&netlink, lo.index, address, 24).unwrap();
    let gone = link::remove_address(&netlink, lo.index, address, 24).unwrap_err();
    assert_eq!(gone.raw_os_error(), Some(libc::EADDRNOTAVAIL));
}

#[test]
fn news_of_links_wake_and_are_drained() {
    own_network();
    let news = Netlink::open(link::NEWS).unwrap();
    news.drain();
    link::loopback_up().unwrap();
    let readable = || {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        poll(&mut [PollFd::new(news.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1
    };
    assert!(readable());
    news.drain();
    assert!(!readable());
}

#[test]
fn a_board_reads_its_configuration() {
    let file = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nstaticPodPath: /etc/pods\n\
                ---\napiVersion: podinit.dev/v1alpha1\nkind: MachineConfiguration\ndata: none\nnetwork:\n  adress: x\n";
    let cmdline =
        "BOOT_IMAGE=/vmlinuz console=ttyS0 podinit.data=store podinit.ip=192.168.7.2/24,192.168.7.1\n";
    let (config, warnings) = Config::board(cmdline, Some(file));
    assert_eq!(config.manifests, std::path::Path::new("/etc/pods"));
    assert_eq!(config.data, Data::Label("store".into()));
    let args = config.net_args().unwrap();
    assert_eq!(args, ["--ip=192.168.7.2/24,192.168.7.1", "--hostname=podinit", "--run-dir=/run/podinit"]);
    let meant = "network.adress: unknown field, left out: did you mean network.address?";
    assert_eq!(warnings, [format!("/etc/podinit/config.yaml:9: {meant}")]);
}
