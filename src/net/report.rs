//! What is known of the machine's interfaces, for others to read: `<run>/net.json` and `<run>/resolv.conf`.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The whole of net.json.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// In the kernel's order; the first with an address is the machine's.
    pub interfaces: Vec<Interface>,
}

/// One wired interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    pub name: String,
    pub mac: String,
    /// There is a cable and something at its other end.
    pub carrier: bool,
    pub address: Option<Ipv4Addr>,
    pub prefix: Option<u8>,
    pub gateway: Option<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
    pub domain: Option<String>,
    /// Seconds that the address was lent for; None: for ever, or there is none.
    pub lease: Option<u32>,
}

impl Report {
    /// The machine's address (hostIP); None: it has none yet.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.interfaces.iter().find_map(|interface| interface.address)
    }

    /// Reads `<run>/net.json`; an empty report where there is none yet.
    pub fn read(run: &Path) -> Report {
        let text = fs::read(run.join(REPORT)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes both files, each whole or not at all.
    pub fn write(&self, run: &Path) -> io::Result<()> {
        fs::create_dir_all(run)?;
        replace(&run.join(REPORT), &serde_json::to_vec(self)?)?;
        replace(&run.join(RESOLV), self.resolv().as_bytes())
    }

    /// resolv.conf(5): the first three servers of all interfaces, as the resolver reads no more.
    fn resolv(&self) -> String {
        let mut text = String::new();
        if let Some(domain) = self.interfaces.iter().find_map(|interface| interface.domain.as_ref()) {
            text.push_str(&format!("search {domain}\n"));
        }
        let mut servers: Vec<Ipv4Addr> = Vec::new();
        for server in self.interfaces.iter().flat_map(|interface| &interface.dns) {
            if !servers.contains(server) {
                servers.push(*server);
            }
        }
        servers.iter().take(3).for_each(|server| text.push_str(&format!("nameserver {server}\n")));
        text
    }
}

const REPORT: &str = "net.json";
const RESOLV: &str = "resolv.conf";

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let half = path.with_extension("new");
    fs::write(&half, bytes)?;
    fs::rename(&half, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_back_and_feeds_the_resolver() {
        let interface = |name: &str, address, dns: &[[u8; 4]]| Interface {
            name: name.into(),
            mac: "02:00:00:00:00:01".into(),
            carrier: true,
            address,
            prefix: Some(24),
            gateway: None,
            dns: dns.iter().map(|octets| (*octets).into()).collect(),
            domain: Some("home".into()),
            lease: None,
        };
        let address = Some([10, 0, 2, 15].into());
        let first = interface("eth0", None, &[[1, 1, 1, 1]]);
        let second = interface("eth1", address, &[[1, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3], [4, 4, 4, 4]]);
        let report = Report { interfaces: vec![first, second] };
        assert_eq!(report.address(), address);
        let run = std::env::temp_dir().join(format!("podinit-report-{}", std::process::id()));
        report.write(&run).unwrap();
        assert_eq!(Report::read(&run), report);
        let text = fs::read_to_string(run.join(RESOLV)).unwrap();
        assert_eq!(text, "search home\nnameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver 3.3.3.3\n");
        fs::remove_dir_all(&run).unwrap();
        assert_eq!(Report::read(&run), Report::default());
    }
}
