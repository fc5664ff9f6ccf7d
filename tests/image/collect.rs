//! Collections in a real store, with layers that the kernel has mounted.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use podinit::image::mount::{mount_layers, mount_rootfs, unmount, unmount_rootfs};
use podinit::image::platform::Platform;
use podinit::image::{Image, Store, archive, stream};

use super::{NAME, built, fresh, left_over, own_mounts, survey};

fn names(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(|name| (*name).to_owned()).collect()
}

/// A second image of the lowest layers of the first.
fn base(store: &Store, of: &Image, layers: usize) -> Image {
    let mut config = store.raw_config(&of.id).unwrap();
    let layers = &of.layers[..layers];
    config["rootfs"]["diff_ids"] = layers.into();
    let bytes = serde_json::to_vec(&config).unwrap();
    let id = stream::digest(&bytes);
    let writing = store.write().unwrap();
    writing.add_config(&id, &bytes).unwrap();
    writing.add_tag("docker.io/library/base:1", "", &id, layers).unwrap();
    drop(writing);
    store.find("base:1").unwrap().unwrap()
}

fn blocks(files: &[PathBuf]) -> u64 {
    files.iter().map(|file| fs::metadata(file).unwrap().blocks() * 512).sum()
}

#[test]
fn i3_what_is_shared_stays_and_what_is_mounted_is_read_to_its_end() {
    own_mounts();
    let home = fresh("collected");
    let store = Store::open(home.join("images"));
    archive::import(&store, &built().join("nginx.oci.tar"), None, &Platform::host()).unwrap();
    let whole = store.find(NAME).unwrap().unwrap();
    let base = base(&store, &whole, 2);
    let layers = mount_layers(&store, &whole, &home.join("run")).unwrap();
    let (scratch, rootfs) = (home.join("scratch"), home.join("rootfs"));
    mount_rootfs(&layers, &scratch, &rootfs).unwrap();
    let before = survey(&rootfs);

    let all = store.survey(&names(&["base:1"]), &BTreeSet::new()).unwrap();
    let own: Vec<PathBuf> = whole.layers[2..].iter().map(|layer| store.layer(layer)).collect();
    let sums = own.iter().map(|file| file.with_extension("sha256"));
    let own: Vec<PathBuf> = own.iter().cloned().chain(sums).chain([store.config_path(&whole.id)]).collect();
    let bytes = blocks(&own);
    let writing = store.write_now().unwrap().expect("nobody adds");
    assert!(store.write_now().unwrap().is_none(), "and nobody else collects");
    let gone = writing.collect(&all, std::slice::from_ref(&whole.id)).unwrap();
    assert_eq!((gone.names, gone.files, gone.bytes), (vec![NAME.to_owned()], own.len() as u64, bytes));
    drop(writing);
    assert!(own.iter().all(|file| !file.exists()) && store.find(NAME).unwrap().is_none());
    assert_eq!(store.verify("base:1").unwrap(), Vec::<String>::new());
    // What had it mounted does not notice.
    assert!(survey(&rootfs) == before, "a container's files changed under it");
    unmount_rootfs(&rootfs, &scratch).unwrap();
    layers.iter().for_each(|layer| unmount(layer).unwrap());

    // It comes again, and only what it lacks is made.
    archive::import(&store, &built().join("nginx.oci.tar"), None, &Platform::host()).unwrap();
    assert_eq!(store.verify(NAME).unwrap(), Vec::<String>::new());
    let all = store.survey(&BTreeSet::new(), &BTreeSet::new()).unwrap();
    let ids = [whole.id.clone(), base.id.clone()];
    assert_eq!(store.write().unwrap().collect(&all, &ids).unwrap().names.len(), 2);
    assert_eq!(left_over(&home.join("images")), Vec::<PathBuf>::new(), "shared ones went with the last");
}

#[test]
fn i3_who_mounts_while_collections_run_finds_what_is_in_use() {
    own_mounts();
    let home = fresh("mounting");
    let store = Store::open(home.join("images"));
    archive::import(&store, &built().join("nginx.oci.tar"), None, &Platform::host()).unwrap();
    let whole = store.find(NAME).unwrap().unwrap();
    let base = base(&store, &whole, 2);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut first, mut rounds) = (None, 0);
            while !done.load(Ordering::Relaxed) || rounds < 3 {
                let image = store.find("base:1").unwrap().expect("it is in use");
                let layers = mount_layers(&store, &image, &home.join("run")).unwrap();
                let (scratch, rootfs) = (home.join("scratch"), home.join("rootfs"));
                mount_rootfs(&layers, &scratch, &rootfs).unwrap();
                let mut found = survey(&rootfs);
                // The root is the writable layer's.
                found.remove(Path::new(""));
                let found: Vec<_> = found.into_iter().map(|(path, facts)| (path, facts.content)).collect();
                assert!(*first.get_or_insert_with(|| found.clone()) == found);
                unmount_rootfs(&rootfs, &scratch).unwrap();
                layers.iter().for_each(|layer| unmount(layer).unwrap());
                rounds += 1;
            }
        });
        for _ in 0..4 {
            let writing = store.write().unwrap();
            let all = store.survey(&names(&["base:1"]), &BTreeSet::new()).unwrap();
            assert_eq!(writing.collect(&all, std::slice::from_ref(&whole.id)).unwrap().names, [NAME]);
            writing.collect_orphans(&all, |_: &Path, _: Duration| false).unwrap();
            drop(writing);
            archive::import(&store, &built().join("nginx.oci.tar"), None, &Platform::host()).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    assert_eq!(store.find("base:1").unwrap().unwrap().id, base.id);
}
