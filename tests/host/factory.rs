//! Images that nobody pulls: from a store that is only read, and from archives that lie in a directory.

use std::fs;
use std::path::{Path, PathBuf};

use podinit::image::{Image, Store, archive as archives, imports, platform::Platform};

use super::instance::{IMAGE, Instance, archive, manifest, until};
use super::{FOREVER, status};

const FULL: &str = "podinit.dev/box:1";

/// A directory of this test's.
fn fresh(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("podinit-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn imported(root: &Path) -> (Store, Image) {
    let store = Store::open(root.to_owned());
    archives::import(&store, archive(), None, &Platform::host()).unwrap();
    let image = store.find(FULL).unwrap().unwrap();
    (store, image)
}

#[test]
fn what_is_not_in_the_store_is_found_behind_it_and_is_never_written_there() {
    let home = fresh("behind");
    let (factory, image) = imported(&home.join("factory"));
    assert!(!image.factory);
    let own = home.join("images");
    let store = Store::open(own.clone()).over(&[home.join("none"), home.join("factory")]);
    let found = store.find("podinit.dev/box:1").unwrap().unwrap();
    assert!(found.factory);
    assert_eq!((found.id, found.size), (image.id.clone(), image.size));
    assert_eq!(store.layer(&image.layers[0]), factory.layer(&image.layers[0]));
    assert_eq!(store.names().unwrap(), [FULL]);
    assert_eq!(store.verify(FULL).unwrap(), Vec::<String>::new());
    let why = store.remove(FULL).unwrap_err();
    assert!(why.ends_with("came with the machine's own image, and stays"), "{why}");

    // A name of ours does not lean on it.
    assert!(store.tag(FULL, "mine:2").unwrap());
    let listed: Vec<_> =
        store.list().unwrap().into_iter().map(|image| (image.reference, image.factory)).collect();
    assert_eq!(listed, [("docker.io/library/mine:2".to_owned(), false), (FULL.to_owned(), true)]);
    assert!(store.own().find("mine:2").unwrap().is_some());
    assert_eq!(store.own().verify("docker.io/library/mine:2").unwrap(), Vec::<String>::new());
    assert!(store.layer(&image.layers[0]).starts_with(&own));

    // What is lost here is served from there, and put back by a repair.
    fs::remove_file(store.own().layer(&image.layers[0])).unwrap();
    assert!(store.own().find("mine:2").unwrap().is_none());
    assert!(store.find("mine:2").unwrap().is_some());
    let (told, whole) = store.own().repair("mine:2", Some(&factory)).unwrap();
    assert!(whole && told.len() == 1 && told[0].ends_with(": replaced"), "{told:?}");
    assert!(store.own().find("mine:2").unwrap().is_some());

    // Prune knows its own files only.
    assert!(store.remove("mine:2").unwrap());
    assert_eq!(store.prune().unwrap().0, 0);
    assert_eq!(factory.verify(FULL).unwrap(), Vec::<String>::new());
    assert!(store.find(FULL).unwrap().is_some());
    fs::remove_dir_all(&home).unwrap();
}

#[test]
fn a_damaged_tag_costs_no_image_that_is_whole_behind() {
    let home = fresh("behind-tag");
    imported(&home.join("factory"));
    imported(&home.join("images"));
    let store = Store::open(home.join("images")).over(&[home.join("factory")]);
    assert!(!store.find(FULL).unwrap().unwrap().factory);
    let tag = home.join("images/tags/podinit.dev%2Fbox%3A1.json");
    assert!(tag.exists());
    fs::write(&tag, "{").unwrap();
    assert!(store.find(FULL).unwrap().unwrap().factory);
    assert!(store.own().find(FULL).is_err());
    fs::remove_dir_all(&home).unwrap();
}

#[test]
fn pods_start_from_a_factory_store_and_from_archives() {
    let mut here = Instance::new();
    let home = here.home.clone();
    // The instance's own store stays empty but for what comes from the archives.
    fs::rename(home.join("root/images"), home.join("factory")).unwrap();
    let folder = home.join("archives");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(archive(), folder.join("._box.tar")).unwrap();
    fs::write(folder.join("README.txt"), "no archive").unwrap();
    fs::write(folder.join("bad.tar"), "no archive either, but it says it is one").unwrap();
    let named = folder.join("other.tar");
    let store = home.join("other");
    let (other, _) = imported(&store);
    assert!(other.tag(FULL, "podinit.dev/other:1").unwrap());
    let image = other.find("podinit.dev/other:1").unwrap().unwrap();
    let mut out = fs::File::create(&named).unwrap();
    podinit::image::export::export(&other, &image, &mut out).unwrap();

    let config = home.join("config.yaml");
    let text = format!(
        "apiVersion: podinit.dev/v1alpha1\nkind: MachineConfiguration\nadditionalImageStores: [{}]\nimageArchives: [{}]\n",
        home.join("factory").display(),
        folder.display()
    );
    fs::write(&config, text).unwrap();
    here.more = vec![format!("--config={}", config.display())];
    let never = |name: &str, image: &str| {
        let pod = manifest(name, "", &[("c", FOREVER)]).replace(IMAGE, image);
        pod.replace("    command:", "    imagePullPolicy: Never\n    command:")
    };
    here.write("factory.yaml", &never("factory", FULL));
    here.write("archive.yaml", &never("archive", "podinit.dev/other:1"));
    here.write("none.yaml", &never("none", "podinit.dev/none:1"));
    here.start();
    for name in ["factory", "archive"] {
        let pod = here.running(name);
        assert_eq!(status(&pod)["restartCount"], 0);
    }
    here.pod_that("none", |pod| status(pod)["state"]["waiting"]["reason"] == "ErrImageNeverPull");
    let log = here.log();
    let wanted = format!("images: podinit.dev/other:1 imported from {}", named.display());
    assert_eq!(log.matches(&wanted).count(), 1, "{log}");
    assert!(log.contains("images: not imported: ") && log.contains("bad.tar: "), "{log}");
    assert!(!log.contains("README") && !log.contains("._box"), "{log}");

    // PID 1 dies and goes on: what is there is not imported again, and who waits goes on waiting.
    let pid = here.pid();
    here.say(&["fault", "panic"]);
    until("the next life", || here.log().contains("re-executed after death 1").then_some(()));
    until("podinit answers", || here.podinit(&["get", "pods"]).status.success().then_some(()));
    assert_eq!(here.pid(), pid);
    here.write("late.yaml", &never("late", "podinit.dev/other:1"));
    here.running("late");
    assert_eq!(here.log().matches("imported from").count(), 1);
}

#[test]
fn an_archive_is_imported_once_and_again_when_it_changed_or_its_image_is_gone() {
    let home = fresh("imports");
    let (folder, platform) = (home.join("archives"), Platform::host());
    fs::create_dir_all(folder.join("layout")).unwrap();
    fs::create_dir_all(folder.join("System Volume Information")).unwrap();
    let path = folder.join("Box.TAR");
    fs::copy(archive(), &path).unwrap();
    let tar =
        std::process::Command::new("tar").arg("-xf").arg(&path).arg("-C").arg(folder.join("layout")).status();
    assert!(tar.unwrap().success());
    fs::write(folder.join("notes.tar.txt"), "").unwrap();
    assert_eq!(
        imports::archives(&[home.join("none"), folder.clone()]),
        [path.clone(), folder.join("layout")]
    );
    fs::remove_dir_all(folder.join("layout")).unwrap();

    let store = Store::open(home.join("images"));
    let import = || imports::import(&store, &path, &platform);
    let came = Some(vec![FULL.to_owned()]);
    assert_eq!(import(), Ok(came.clone()));
    assert_eq!(import(), Ok(None));
    assert_eq!(imports::pinned(&store), [FULL]);
    // A note of which half is there, as none.
    let note = fs::read_dir(home.join("images/imported")).unwrap().flatten().next().unwrap().path();
    let text = fs::read_to_string(&note).unwrap();
    fs::write(&note, &text[..text.len() / 2]).unwrap();
    assert_eq!(import(), Ok(came.clone()));
    assert!(store.remove(FULL).unwrap());
    assert_eq!(import(), Ok(came.clone()));
    fs::File::options()
        .append(true)
        .open(&path)
        .unwrap()
        .set_len(fs::metadata(&path).unwrap().len() + 512)
        .unwrap();
    assert_eq!(import(), Ok(came));
    assert_eq!(import(), Ok(None));
    // What cannot be read is refused each time, and costs nothing that is there.
    fs::write(&path, "no archive").unwrap();
    assert!(import().unwrap_err().contains("Box.TAR"));
    assert!(import().is_err());
    assert!(store.find(FULL).unwrap().is_some());
    // What no archive would bring back is not kept for its sake.
    fs::remove_file(&path).unwrap();
    assert_eq!(imports::pinned(&store), [""; 0]);
    fs::remove_dir_all(&home).unwrap();
}
