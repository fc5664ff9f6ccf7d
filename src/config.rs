//! What the operator set: kernel command line, flags, configuration file. Read once.

mod fields;
mod file;
mod flags;
mod known;
mod node;
mod registry;
mod url;
mod value;

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use log::LevelFilter;

pub use registry::{Proxies, Registries, Registry};
pub use url::Headers;

/// The whole configuration, defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Static pod manifests: a directory, or one file.
    pub manifests: PathBuf,
    /// What outlives a boot: images, disk-backed volumes, writable layers.
    pub root: PathBuf,
    /// What does not: the socket, facts, bundles, namespaces.
    pub run: PathBuf,
    /// Container logs as the kubelet lays them out.
    pub pod_logs: PathBuf,
    /// Links to them by container.
    pub container_logs: PathBuf,
    /// Where cgroup2 is mounted, for us and all our children.
    pub cgroup: PathBuf,
    /// Below it, with a leading slash: where our own tree begins; empty on a board, where all of it is ours.
    pub cgroup_parent: String,
    /// Lower case; the suffix of every static pod's name.
    pub node_name: String,
    /// How often the manifest directory is listed, beside inotify.
    pub file_check: Duration,
    /// Where pods are read from beside the manifests; None: nowhere.
    pub static_pod_url: Option<String>,
    pub static_pod_url_headers: Headers,
    /// How often it is asked.
    pub http_check: Duration,
    /// A log file is rotated once it holds this many bytes.
    pub log_max_size: u64,
    /// How many log files a container keeps, the present one included; at least 2.
    pub log_max_files: u32,
    /// pids.max of each pod; None: no limit of its own.
    pub pod_pids_limit: Option<u64>,
    /// What is not for pods: the machine's own, and podinit's.
    pub system_reserved: Reserved,
    pub kube_reserved: Reserved,
    /// evictionHard memory.available and nodefs.available: what no pod may request. Nothing, unless it is set: nobody is
    /// evicted yet, so a default would be memory that nobody can use.
    pub eviction_memory: Floor,
    pub eviction_storage: Floor,
    /// enforceNodeAllocatable holds `pods`: all pods together are bound by what is not reserved.
    pub enforce_allocatable: bool,
    pub max_pods: u64,
    /// 0: no bound by cores.
    pub pods_per_core: u64,
    pub allowed_sysctls: Vec<String>,
    /// How many user and group ids a pod with hostUsers: false gets.
    pub ids_per_pod: u32,
    /// An OOM kill takes one process, not its container.
    pub single_process_oom_kill: bool,
    /// Whether cpu limits are enforced, and in which period.
    pub cfs_quota: bool,
    pub cfs_period: Duration,
    /// The cap of the crash-loop back-off.
    pub restart_cap: Duration,
    /// The longest grace that an ending machine gives.
    pub ending_grace: Duration,
    /// What of it is kept for critical pods, which end last; None: nothing.
    pub ending_grace_critical: Option<Duration>,
    /// DNS servers of the cluster, if there is one; none on a board of its own.
    pub cluster_dns: Vec<String>,
    /// The cluster's domain; empty where there is none.
    pub cluster_domain: String,
    /// The resolv.conf that pods take over; None: none is.
    pub resolv_conf: Option<PathBuf>,
    /// serializeImagePulls; None: as `max_parallel_pulls` asks for.
    pub serialize_pulls: Option<bool>,
    /// maxParallelImagePulls, at least 1; None: as many as there are, where they are not serial.
    pub max_parallel_pulls: Option<u32>,
    /// Where images are pulled from, where that is not as usual.
    pub registries: Registries,
    /// additionalImageStores: where images are looked for that are not in our own store; they are only read.
    pub image_stores: Vec<PathBuf>,
    /// imageArchives: directories whose archives are imported when podinit begins.
    pub image_archives: Vec<PathBuf>,
    /// Allows `podinit fault`, by which tests make PID 1 panic or crash.
    pub faults: bool,
    /// What is logged: info, and with `--v=4` or `podinit.log=debug` more.
    pub log: LevelFilter,
    /// The machine's name as the operator set it; None: /etc/hostname, else `podinit`.
    pub hostname: Option<String>,
    /// Kernel modules to load beside those that devices ask for.
    pub modules: Vec<String>,
    /// Where the data partition is.
    pub data: Data,
    /// How the wired interfaces get their addresses.
    pub network: Network,
    /// Where the operator's verbs can be typed.
    pub prompt: Prompt,
}

/// systemReserved or kubeReserved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory: u64,
    /// ephemeral-storage, in bytes.
    pub storage: u64,
    pub pids: u64,
}

/// A hard eviction threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    Bytes(u64),
    /// Of the capacity, in thousandths of a percent.
    Share(u64),
}

/// Where what outlives a boot is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// On the ext4 file system of this label; in memory where there is none.
    Label(String),
    /// In memory, whatever disks there are.
    None,
}

/// How the wired interfaces get their addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// From a DHCP server.
    Dhcp,
    /// The first wired interface has this address; the others stay as they are.
    Fixed(Fixed),
    /// Nobody touches them.
    None,
}

/// The device of the terminal that the kernel's console is on: the last one that it names, if it names any.
pub fn console_terminal() -> Option<String> {
    let active = std::fs::read_to_string("/sys/class/tty/console/active").ok()?;
    active.split_ascii_whitespace().last().map(|name| format!("/dev/{name}"))
}

/// Where the operator's verbs can be typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// On the terminal that the kernel's console is on.
    Console,
    /// On a terminal of its own, which no log line disturbs.
    Terminal(Terminal),
    /// Nowhere: whoever reaches the board's serial line may only read there.
    None,
}

/// A terminal: the name of its device below /dev, and the speed of its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    pub name: String,
    /// Bits a second; None: as it is.
    pub speed: Option<u32>,
}

/// A fixed IPv4 address with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    pub address: Ipv4Addr,
    /// 0 to 32.
    pub prefix: u8,
    pub gateway: Option<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
}

/// Where a board's own images are: those of its initramfs, once the data partition is over them, and those of its boot
/// partition.
const FACTORY: [&str; 2] = ["/run/podinit/factory/images", "/boot/factory"];
/// Where an operator puts a board's archives, with any computer.
const ARCHIVES: &str = "/boot/images";

impl Config {
    /// A board's configuration: the kernel's command line over the text of /etc/podinit/config.yaml over the defaults.
    /// A value that cannot be used keeps what it would have replaced; each is told in the second part of the answer.
    pub fn board(cmdline: &str, file: Option<&str>) -> (Config, Vec<String>) {
        let mut config = Config {
            image_stores: FACTORY.iter().map(PathBuf::from).collect(),
            image_archives: vec![ARCHIVES.into()],
            ..Config::default()
        };
        let mut warnings = Vec::new();
        if let Some(text) = file {
            file::apply(&mut config, text, FILE, &mut warnings);
        }
        flags::cmdline(&mut config, cmdline, &mut warnings);
        (config, warnings)
    }

    /// The configuration of `podinit run FLAGS`; the flags are over the file that `--config` names. The first error
    /// ends it, as the operator is there to read it; what the file says wrongly is told in the second part.
    pub fn run(args: &[String]) -> Result<(Config, Vec<String>), String> {
        flags::run(args)
    }

    /// The help text of `podinit run`.
    pub fn run_help() -> String {
        flags::help()
    }

    /// How many images are pulled at once, at most; at least 1. One, unless more are asked for.
    pub fn parallel_pulls(&self) -> u32 {
        match (self.serialize_pulls, self.max_parallel_pulls) {
            (Some(true), _) | (None, None) => 1,
            (Some(false) | None, Some(most)) => most,
            (Some(false), None) => u32::MAX,
        }
    }

    /// The arguments of `podinit net`, the helper that gives the wired interfaces their addresses; None: it is not wanted.
    pub fn net_args(&self) -> Option<Vec<String>> {
        if self.network == Network::None {
            return None;
        }
        Some(vec![
            format!("--ip={}", self.network),
            format!("--hostname={}", self.node_name),
            format!("--run-dir={}", self.run.display()),
        ])
    }
}

/// The configuration file of a board.
pub const FILE: &str = "/etc/podinit/config.yaml";

/// `dhcp`, `none`, or `ADDRESS/PREFIX[,GATEWAY[,DNS...]]`.
impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "dhcp" => return Ok(Network::Dhcp),
            "none" => return Ok(Network::None),
            _ => {}
        }
        let mut parts = text.split(',');
        let first = parts.next().unwrap_or_default();
        let (address, prefix) = value::prefixed(first)?;
        let gateway = match parts.next() {
            None | Some("") => None,
            Some(text) => Some(value::ipv4(text)?),
        };
        let dns = parts.map(value::ipv4).collect::<Result<_, _>>()?;
        Ok(Network::Fixed(Fixed { address, prefix, gateway, dns }))
    }
}

/// `console`, `none`, or `DEVICE[,SPEED]` as in the kernel's `console=`: `ttyS1,115200`.
impl FromStr for Prompt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "console" => return Ok(Prompt::Console),
            "none" => return Ok(Prompt::None),
            _ => {}
        }
        let (name, speed) = text.split_once(',').map_or((text, None), |(name, speed)| (name, Some(speed)));
        let name = name.strip_prefix("/dev/").unwrap_or(name);
        if name.is_empty() || name.contains("..") || name.starts_with('/') {
            return Err(format!("{text:?} is no terminal, use console, none or one like ttyS1,115200"));
        }
        // The kernel's console= takes the letters of parity and bits behind the number: 115200n8.
        let speed = speed.map(|speed| speed.strip_suffix("n8").unwrap_or(speed));
        let number = |speed: &str| speed.parse().ok().filter(|speed| SPEEDS.contains(speed));
        let speed = match speed.map(|speed| number(speed).ok_or(speed)) {
            None => None,
            Some(Ok(speed)) => Some(speed),
            Some(Err(speed)) => {
                return Err(format!("{speed:?} is no speed of a line, use one of {SPEEDS:?} with no parity"));
            }
        };
        Ok(Prompt::Terminal(Terminal { name: name.to_owned(), speed }))
    }
}

/// The speeds of serial lines that are in use, in bits a second.
pub const SPEEDS: [u32; 8] = [9600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600];

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Network::Dhcp => f.write_str("dhcp"),
            Network::None => f.write_str("none"),
            Network::Fixed(fixed) => {
                write!(f, "{}/{},", fixed.address, fixed.prefix)?;
                if let Some(gateway) = fixed.gateway {
                    write!(f, "{gateway}")?;
                }
                fixed.dns.iter().try_for_each(|dns| write!(f, ",{dns}"))
            }
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            manifests: "/etc/kubernetes/manifests".into(),
            root: "/var/lib/podinit".into(),
            run: "/run/podinit".into(),
            pod_logs: "/var/log/pods".into(),
            container_logs: "/var/log/containers".into(),
            cgroup: "/sys/fs/cgroup".into(),
            cgroup_parent: String::new(),
            node_name: "podinit".into(),
            file_check: Duration::from_secs(20),
            static_pod_url: None,
            static_pod_url_headers: Headers::default(),
            http_check: Duration::from_secs(20),
            log_max_size: 10 << 20,
            log_max_files: 5,
            pod_pids_limit: None,
            system_reserved: Reserved::default(),
            kube_reserved: Reserved::default(),
            eviction_memory: Floor::Bytes(0),
            eviction_storage: Floor::Bytes(0),
            enforce_allocatable: true,
            max_pods: 110,
            pods_per_core: 0,
            allowed_sysctls: Vec::new(),
            ids_per_pod: 65_536,
            single_process_oom_kill: false,
            cfs_quota: true,
            cfs_period: Duration::from_millis(100),
            restart_cap: Duration::from_secs(300),
            ending_grace: Duration::from_secs(30),
            ending_grace_critical: None,
            cluster_dns: Vec::new(),
            cluster_domain: String::new(),
            resolv_conf: Some("/etc/resolv.conf".into()),
            serialize_pulls: None,
            max_parallel_pulls: None,
            registries: Registries::default(),
            image_stores: Vec::new(),
            image_archives: Vec::new(),
            faults: false,
            log: LevelFilter::Info,
            hostname: None,
            modules: Vec::new(),
            data: Data::Label("data".into()),
            network: Network::Dhcp,
            prompt: Prompt::Console,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_reads_back_as_written() {
        for text in
            ["dhcp", "none", "10.0.0.2/24,10.0.0.1,1.1.1.1,9.9.9.9", "10.0.0.2/24,", "10.0.0.2/24,,1.1.1.1"]
        {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert_eq!("10.0.0.2/24".parse::<Network>().unwrap().to_string(), "10.0.0.2/24,");
        for text in
            ["", "10.0.0.2", "10.0.0.2/33", "10.0.0/24", "10.0.0.2/24,gate", "10.0.0.2/24,10.0.0.1,dns"]
        {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_prompt_is_on_the_console_on_a_terminal_or_nowhere() {
        let at = |name: &str, speed| Ok(Prompt::Terminal(Terminal { name: name.to_owned(), speed }));
        let table = [
            ("console", Ok(Prompt::Console)),
            ("none", Ok(Prompt::None)),
            ("ttyS1", at("ttyS1", None)),
            ("/dev/ttyAMA0,115200", at("ttyAMA0", Some(115_200))),
            ("ttyUSB0,9600n8", at("ttyUSB0", Some(9600))),
            ("", Err("\"\" is no terminal, use console, none or one like ttyS1,115200")),
            ("/dev/../sda", Err("\"/dev/../sda\" is no terminal")),
            (",9600", Err("\",9600\" is no terminal")),
            ("ttyS1,fast", Err("\"fast\" is no speed of a line, use one of [9600,")),
            ("ttyS1,115200e7", Err("\"115200e7\" is no speed")),
        ];
        for (text, wanted) in table {
            match (text.parse::<Prompt>(), wanted) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{text}"),
                (Err(found), Err(wanted)) => assert!(found.starts_with(wanted), "{text}: {found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn the_command_line_is_over_the_file() {
        let file = "apiVersion: podinit.dev/v1alpha1\nkind: MachineConfiguration\nhostname: porch\nmodules: [i2c-dev]\nprompt: ttyS1\n";
        let (config, warnings) =
            Config::board("quiet podinit.hostname=attic podinit.modules=loop,veth", Some(file));
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(config.hostname.as_deref(), Some("attic"));
        assert_eq!(config.modules, ["i2c-dev", "loop", "veth"]);
        assert_eq!(config.prompt, "ttyS1".parse().unwrap());
    }
}
