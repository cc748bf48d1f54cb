use super::*;
use crate::config::{Bind, Injected};

struct Place {
    directory: tempfile::TempDir,
    all: Paths,
    paths: SpacePaths,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let all = Paths::within(directory.path()).unwrap();
        let paths = all.space(&"red".parse().unwrap());
        fs::create_dir(&paths.state).unwrap();
        Place { directory, all, paths }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn settings(&self, files: &Files) -> Outcome<Settings> {
        settings(&self.all, &self.paths, files, None)
    }

    fn refused(&self, files: &Files) -> String {
        self.settings(files).unwrap_err().chain()
    }
}

#[test]
fn paths_of_the_host_become_paths_below_the_root() {
    let place = Place::new();
    let files = Files {
        root: Some("/srv".into()),
        masks: vec!["/srv/a/secret".into(), "/home/me/.ssh".into()],
        mounts: Some(vec!["/srv/disk".into()]),
        quota: Some(1 << 20),
        ..Files::default()
    };
    let settings = place.settings(&files).unwrap();
    assert_eq!(settings.lowers, [LowerLayer::Live("/srv".into())]);
    assert_eq!(settings.masks, [PathBuf::from("a/secret")]);
    assert_eq!(settings.crossing, Crossing::Only(vec!["disk".into()]));
    assert_eq!(settings.quota, Some(1 << 20));
    let none = Files { mounts: Some(Vec::new()), ..files };
    assert_eq!(place.settings(&none).unwrap().crossing, Crossing::None);
    let nothing = place.settings(&Files::default()).unwrap();
    let empty = LowerLayer::Sealed { files: place.paths.empty(), index: None, own: true };
    assert_eq!(nothing.lowers, [empty], "nobody changes it: what is cached of it stays right");
    assert_eq!(nothing.crossing, Crossing::All);
}

#[test]
fn portspaces_own_directories_are_never_seen() {
    let place = Place::new();
    let root = Some(place.directory.path().to_owned());
    let settings = place.settings(&Files { root, ..Files::default() }).unwrap();
    assert_eq!(settings.private, [place.path("state"), place.path("runtime")]);
    assert_eq!(settings.masks, [PathBuf::from("state"), PathBuf::from("runtime")]);
    std::os::unix::fs::symlink(place.path("state"), place.path("link")).unwrap();
    for name in ["state", "link/spaces", "state/spaces/red"] {
        let files = Files { root: Some(place.path(name)), ..Files::default() };
        assert!(place.refused(&files).contains("is portspace's own; name another"), "{name}");
        let bind = Bind { path: "/in".into(), source: place.path(name), shared: false };
        let files = Files { binds: vec![bind], ..Files::default() };
        assert!(place.refused(&files).contains("it is portspace's own; bind another"), "{name}");
    }
}

#[test]
fn a_source_that_is_not_there_is_named_with_its_key() {
    let place = Place::new();
    let bind = Bind { path: "/in".into(), source: place.path("nothing"), shared: true };
    let said = place.refused(&Files { binds: vec![bind], ..Files::default() });
    assert!(
        said.starts_with("[[files.bind]] source: ") && said.contains("nothing cannot be bound")
    );
}

#[test]
fn what_is_given_is_made_once_and_again_only_if_it_changes() {
    let place = Place::new();
    let text = |text: &str| Content::Text(text.to_owned());
    let injected = |content| Injected { path: "/etc/a/file".into(), content };
    let mut files = Files { injected: vec![injected(text("one"))], ..Files::default() };
    files.binds = vec![
        Bind { path: "/in".into(), source: place.path("state"), shared: false },
        Bind { path: "/in/below".into(), source: place.path("state"), shared: false },
    ];
    give(&place.paths, &files).unwrap();
    let layer = given_files(&place.paths);
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&layer).unwrap());
    let first = inode();
    assert_eq!(fs::read_to_string(layer.join("etc/a/file")).unwrap(), "one");
    assert!(layer.join("in").is_dir() && !layer.join("in/below").exists());
    give(&place.paths, &files).unwrap();
    assert_eq!(inode(), first);
    fs::write(place.path("from"), "two").unwrap();
    files.injected = vec![injected(Content::File(place.path("from")))];
    give(&place.paths, &files).unwrap();
    assert_eq!(fs::read_to_string(layer.join("etc/a/file")).unwrap(), "two");
    let lowers = place.settings(&Files { binds: Vec::new(), ..files }).unwrap().lowers;
    assert_eq!(lowers[0], LowerLayer::Given(layer.clone()));
    give(&place.paths, &Files::default()).unwrap();
    assert!(!place.paths.given().exists());
    let missing = vec![injected(Content::File(place.path("nothing")))];
    let files = Files { injected: missing, ..Files::default() };
    let said = give(&place.paths, &files).unwrap_err().chain();
    assert!(said.starts_with("[files.inject] \"/etc/a/file\": ") && said.contains("nothing"));
}
