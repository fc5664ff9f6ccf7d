//! emptyDir: a directory, a tmpfs of a bounded size, or a hugetlbfs.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::set_mode;
use crate::pod::spec::Medium;
use crate::pod::{Pod, resources};

/// What is behind the directory. Sizes in bytes; None: as much as there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Disk,
    Memory(Option<u64>),
    HugePages { page: u64, size: Option<u64> },
}

/// A memory volume is bounded by the node, the pod's memory limit and its own sizeLimit (kubelet:
/// calculateEmptyDirMemorySize), huge pages by the pod's limit and sizeLimit. 0 bounds nothing.
pub fn kind(pod: &Pod, medium: Medium, limit: Option<u64>, memory_bound: u64) -> Result<Kind, String> {
    let least = |bounds: [Option<u64>; 3]| bounds.into_iter().flatten().filter(|bound| *bound > 0).min();
    match medium {
        Medium::Disk => Ok(Kind::Disk),
        Medium::Memory => Ok(Kind::Memory(least([
            Some(memory_bound),
            resources::pod_limits(pod, resources::Cfs::default()).memory,
            limit,
        ]))),
        Medium::HugePages(page) => {
            let asked = asked(pod);
            let page = match (page, asked.len()) {
                (Some(page), _) => Some(page).filter(|page| asked.contains(page)),
                (None, 0 | 1) => asked.first().copied(),
                (None, _) => {
                    return Err(
                        "medium HugePages can't be used if container requests multiple huge page sizes"
                            .into(),
                    );
                }
            };
            let page = page.ok_or_else(|| {
                "hugePages storage requested, but there is no resource request for huge pages".to_owned()
            })?;
            Ok(Kind::HugePages { page, size: least([Some(resources::huge(pod, page)), limit, None]) })
        }
    }
}

/// The page sizes that the pod's containers, or the pod itself, ask for.
fn asked(pod: &Pod) -> BTreeSet<u64> {
    let all = pod.all().map(|container| &container.huge_pages).chain([&pod.huge_pages]);
    all.flatten().filter(|(_, bytes)| **bytes > 0).map(|(page, _)| *page).collect()
}

/// Makes the directory with its file system; what is mounted there already stays.
pub fn make(dir: &Path, kind: Kind) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    if kind != Kind::Disk && !mounted(dir)? {
        attach(dir, kind)?;
    }
    set_mode(dir, 0o777)
}

fn attach(dir: &Path, kind: Kind) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    match kind {
        Kind::Disk => {}
        Kind::Memory(bytes) => {
            let attach = |noswap| {
                let options = memory_options(bytes, noswap);
                mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(options.as_str()))
            };
            attach(true).or_else(|_| attach(false))?;
        }
        Kind::HugePages { page, size: bytes } => {
            let option = format!("mode=0777,pagesize={page}{}", size_option(bytes));
            mount(Some("hugetlbfs"), dir, Some("hugetlbfs"), flags, Some(option.as_str())).map_err(
                |errno| io::Error::other(format!("cannot mount huge pages of {page} bytes: {errno}")),
            )?;
        }
    }
    Ok(())
}

/// Memory that is swapped out is no longer in memory; kernels before 6.4 do not know the option.
fn memory_options(size: Option<u64>, noswap: bool) -> String {
    format!("mode=0777{}{}", size_option(size), if noswap { ",noswap" } else { "" })
}

fn size_option(size: Option<u64>) -> String {
    size.map(|size| format!(",size={size}")).unwrap_or_default()
}

/// Whether something is mounted just there.
pub fn mounted(dir: &Path) -> io::Result<bool> {
    let parent = dir.parent().unwrap_or(dir);
    let device = |path: &Path| nix::sys::stat::lstat(path).map(|stat| stat.st_dev);
    Ok(device(dir)? != device(parent)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pod::spec::{Resources, RestartPolicy};
    use crate::pod::{Container, sample};

    const GIB: u64 = 1 << 30;

    /// A pod of these containers, the init ones first.
    fn pod_of(init: Vec<Container>, containers: Vec<Container>) -> Pod {
        Pod { init, containers, ..Arc::unwrap_or_clone(sample::pod(RestartPolicy::Always, &[], &[])) }
    }

    /// emptyDir Memory size. Answered differently: sizeLimit 0 leaves the node's bound, where the kubelet's own mount has none
    /// only because its table knows no node.
    #[test]
    fn c14_memory_sizes() {
        let limited = |memory: u64| Resources {
            memory_limit: Some(memory).filter(|memory| *memory > 0),
            ..Resources::default()
        };
        let table = [
            (10 * GIB, Some(GIB), 16 * GIB, Some(GIB)),
            (10 * GIB, None, 16 * GIB, Some(10 * GIB)),
            (10 * GIB, Some(12 * GIB), 16 * GIB, Some(10 * GIB)),
            (0, None, 16 * GIB, Some(16 * GIB)),
            (0, Some(17 * GIB), 16 * GIB, Some(16 * GIB)),
            (0, Some(123 << 10), 16 * GIB, Some(125_952)),
            (0, Some(0), 16 * GIB, Some(16 * GIB)),
            (0, Some(0), 0, None),
        ];
        for (pod_limit, limit, node, expected) in table {
            let pod =
                pod_of(vec![], vec![Container { resources: limited(pod_limit), ..Container::default() }]);
            let found = kind(&pod, Medium::Memory, limit, node);
            assert_eq!(found, Ok(Kind::Memory(expected)), "{pod_limit} {limit:?} {node}");
        }
    }

    /// C14, rows 4 to 6.
    #[test]
    fn c14_memory_options() {
        for (size, noswap, expected) in [
            (Some(123 << 10), false, "mode=0777,size=125952"),
            (Some(123 << 10), true, "mode=0777,size=125952,noswap"),
            (None, true, "mode=0777,noswap"),
            (None, false, "mode=0777"),
        ] {
            assert_eq!(memory_options(size, noswap), expected);
        }
    }

    #[test]
    fn huge_page_sizes() {
        const TWO: u64 = 2 << 20;
        let pages = |init: &[(u64, u64)], main: &[&[(u64, u64)]]| {
            let of = |pages: &[(u64, u64)]| Container {
                huge_pages: pages.iter().copied().collect(),
                ..Container::default()
            };
            pod_of(vec![of(init)], main.iter().map(|pages| of(pages)).collect())
        };
        let two = pages(&[(TWO, 4 * TWO)], &[&[(TWO, 3 * TWO)], &[(TWO, 2 * TWO)]]);
        let both = pages(&[], &[&[(TWO, TWO), (GIB, 2 * GIB)]]);
        let none = pages(&[], &[&[]]);
        let several = "medium HugePages can't be used if container requests multiple huge page sizes";
        let no = "hugePages storage requested, but there is no resource request for huge pages";
        let table = [
            (&two, None, None, Ok((TWO, Some(5 * TWO)))),
            (&two, Some(TWO), Some(TWO), Ok((TWO, Some(TWO)))),
            (&two, Some(TWO), Some(0), Ok((TWO, Some(5 * TWO)))),
            (&two, Some(GIB), None, Err(no)),
            (&both, None, None, Err(several)),
            (&both, Some(GIB), None, Ok((GIB, Some(2 * GIB)))),
            (&none, None, None, Err(no)),
        ];
        for (pod, page, limit, expected) in table {
            let found = kind(pod, Medium::HugePages(page), limit, GIB);
            let expected = expected.map(|(page, size)| Kind::HugePages { page, size });
            assert_eq!(found, expected.map_err(str::to_owned), "{page:?} {limit:?}");
        }
    }
}
