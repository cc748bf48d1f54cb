use super::seal::{self, STEPS, Sealing};
use super::*;

struct Lab {
    _directory: tempfile::TempDir,
    spaces: Spaces,
}

fn name(text: &str) -> SpaceName {
    text.parse().unwrap()
}

impl Lab {
    fn new() -> Lab {
        let directory = tempfile::tempdir().unwrap();
        let spaces = Spaces { paths: Paths::within(directory.path()).unwrap() };
        fs::write(directory.path().join("base.toml"), "[files]\nroot = \"/srv\"\nmask = []\n")
            .unwrap();
        let lab = Lab { _directory: directory, spaces };
        lab.make("red", None).unwrap();
        lab
    }

    fn paths(&self, space: &str) -> SpacePaths {
        self.spaces.paths.space(&name(space))
    }

    /// What `up` does about its files before it starts anything.
    fn make(&self, space: &str, parent: Option<&str>) -> Outcome<Lineage> {
        self.paths(space).keep(&self._directory.path().join("base.toml"))?;
        self.spaces.lineage(&name(space), parent.map(name).as_ref())
    }

    fn write(&self, space: &str, file: &str) {
        fs::write(self.paths(space).upper().join(file), space).unwrap();
        fs::create_dir_all(self.paths(space).work().join("index")).unwrap();
        fs::write(self.paths(space).work().join("index/key"), file).unwrap();
    }

    /// The names a space has in its own layer, and in each of its chain.
    fn names(&self, space: &str) -> Vec<Vec<String>> {
        let lineage = Lineage::read(&self.spaces.paths, &self.paths(space)).unwrap().unwrap();
        let layers = lineage.layers(&self.spaces.paths).into_iter().map(|layer| layer.files);
        std::iter::once(self.paths(space).upper())
            .chain(layers)
            .map(|layer| {
                let mut names = names_in(&layer).unwrap();
                names.sort();
                names
            })
            .collect()
    }

    fn layers(&self) -> Vec<String> {
        let layers = self.spaces.paths.layers();
        let owners = names_in(&layers).unwrap();
        let mut ids: Vec<_> = owners
            .iter()
            .flat_map(|owner| {
                names_in(&layers.join(owner))
                    .unwrap()
                    .into_iter()
                    .map(move |number| format!("{owner}/{number}"))
            })
            .collect();
        ids.sort();
        ids
    }
}

#[test]
fn a_child_is_made_of_what_its_parent_has_written_so_far() {
    let lab = Lab::new();
    lab.write("red", "first");
    let blue = lab.make("blue", Some("red")).unwrap();
    assert_eq!(blue.parent(), Some("red"));
    assert_eq!(blue.files(&Files::default()).root, Some("/srv".into()));
    assert_eq!(lab.names("red"), [vec![], vec!["first"]]);
    assert_eq!(lab.names("blue"), [vec![], vec!["first"]]);
    lab.write("red", "red's");
    lab.write("blue", "blue's");
    lab.make("green", Some("blue")).unwrap();
    assert_eq!(lab.names("green"), [vec![], vec!["blue's"], vec!["first"]]);
    assert_eq!(lab.names("red"), [vec!["red's"], vec!["first"]]);
    // One that has written nothing since has nothing to seal.
    lab.make("grey", Some("blue")).unwrap();
    assert_eq!(lab.names("grey"), lab.names("green"));
    assert_eq!(lab.layers(), ["blue/1", "red/1"]);
    let of = |space: &str| {
        let lineage = Lineage::load(&lab.paths(space)).unwrap().unwrap();
        lineage.sealed(&lab.spaces.paths).map(|layers| layers.len())
    };
    assert_eq!((of("red"), of("blue"), of("green")), ([1, 0], [1, 1], [0, 2]));
    assert_eq!(lab.make("blue", Some("red")).unwrap().layers, ["blue/1", "red/1"]);
}

#[test]
fn layers_stay_until_the_last_space_that_uses_them_is_removed() {
    let lab = Lab::new();
    lab.write("red", "first");
    lab.make("blue", Some("red")).unwrap();
    lab.make("green", Some("blue")).unwrap();
    lab.spaces.remove(&name("red")).unwrap();
    assert_eq!(lab.names("green"), [vec![], vec!["first"]]);
    // Another space of that name has nothing to do with it.
    lab.make("red", None).unwrap();
    lab.write("red", "other");
    lab.make("grey", Some("red")).unwrap();
    assert_eq!(lab.layers(), ["red-2/1", "red/1"]);
    lab.spaces.remove(&name("blue")).unwrap();
    assert_eq!(lab.layers(), ["red-2/1", "red/1"]);
    lab.spaces.remove(&name("green")).unwrap();
    assert_eq!(lab.layers(), ["red-2/1"]);
    lab.spaces.remove(&name("grey")).unwrap();
    lab.spaces.remove(&name("red")).unwrap();
    assert!(names_in(&lab.spaces.paths.layers()).unwrap().is_empty());
}

#[test]
fn a_sealing_killed_at_any_step_is_finished_by_the_next() {
    for killed in 1..=STEPS.len() {
        let lab = Lab::new();
        lab.write("red", "first");
        let paths = lab.paths("red");
        let lineage = Lineage::load(&paths).unwrap().unwrap();
        let sealing = Sealing::new(&lab.spaces.paths, &name("red"), &paths, &lineage).unwrap();
        STEPS[..killed].iter().try_for_each(|step| sealing.do_step(*step)).unwrap();
        // Another space that is removed meanwhile takes nothing of it along.
        lab.make("grey", None).unwrap();
        lab.spaces.remove(&name("grey")).unwrap();
        match killed % 2 {
            0 => drop(lab.make("red", None).unwrap()),
            _ => drop(lab.make("blue", Some("red")).unwrap()),
        }
        assert_eq!(lab.names("red"), [vec![], vec!["first"]], "after step {killed}");
        assert!(lab.spaces.paths.layer("red/1").join("index/key").exists(), "after step {killed}");
        assert!(!paths.sealing().exists());
        lab.write("red", "second");
        lab.make("green", Some("red")).unwrap();
        assert_eq!(lab.names("green"), [vec![], vec!["second"], vec!["first"]]);
    }
}

#[test]
fn what_cannot_be_a_chain_is_refused_with_a_sentence() {
    let lab = Lab::new();
    let refused = |space: &str, parent| lab.make(space, parent).unwrap_err().chain();
    let said = refused("blue", Some("yellow"));
    assert!(said.starts_with("[space] parent: there is no space yellow; start or mount it once"));
    lab.write("red", "first");
    let held = locks::take(&{
        own(&lab.paths("red").runtime).unwrap();
        lab.paths("red").lock()
    });
    let said = refused("green", Some("red"));
    assert!(
        said.contains(
            "green cannot be made from space red: space red cannot be held still: the process"
        ),
        "{said}"
    );
    drop(held);
    lab.make("green", Some("red")).unwrap();
    let said = refused("red", Some("green"));
    assert!(said.starts_with("space red was made from the host, and stays so: correct"), "{said}");
    let said = refused("green", None);
    assert!(said.starts_with("space green was made from space red, and stays so"), "{said}");
    let path = lab.paths("green").lineage();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"red/1\"", "\"red/1\", \"red/1\"")).unwrap();
    let said = refused("green", Some("red"));
    assert!(said.starts_with("the chain of space green has a loop: layer red/1"), "{said}");
    fs::write(&path, text.replace("red/1", "../../etc")).unwrap();
    assert!(refused("green", Some("red")).contains("names no layer; correct it"));
    fs::write(&path, &text[1..]).unwrap();
    assert!(refused("green", Some("red")).contains("is damaged; remove the space with"));
    fs::write(&path, text).unwrap();
    fs::remove_dir_all(lab.spaces.paths.layer("red/1")).unwrap();
    let said = refused("green", Some("red"));
    assert!(said.starts_with("layer red/1 below space green is gone; bring"), "{said}");
}

/// A process that serves a space, as far as commands see it, on a thread of this one.
#[expect(clippy::disallowed_methods, reason = "a process of its own, but for a test")]
fn serve(lab: &Lab, space: &str) -> (fs::File, std::sync::Arc<cowfs::FileSpace>) {
    let paths = lab.paths(space);
    own(&paths.runtime).unwrap();
    let lineage = Lineage::load(&paths).unwrap();
    let settings =
        crate::seen::settings(&lab.spaces.paths, &paths, &Files::default(), lineage.as_ref());
    let served = cowfs::FileSpace::open(settings.unwrap().config()).unwrap();
    let served = std::sync::Arc::new(served);
    let listener = sys::seqpacket::Listener::bind(&paths.seal_socket().unwrap()).unwrap();
    let (held, upper, next) = (std::sync::Arc::clone(&served), paths.upper(), paths.next_upper());
    std::thread::spawn(move || ::seal::serve(&listener, &held, &upper, &next));
    (locks::take(&paths.lock()).unwrap().unwrap(), served)
}

#[test]
fn a_space_that_is_served_is_sealed_and_goes_on() {
    let lab = Lab::new();
    let (_lock, served) = serve(&lab, "red");
    lab.write("red", "first");
    lab.make("blue", Some("red")).unwrap();
    assert_eq!(lab.names("blue"), [vec![], vec!["first"]]);
    lab.write("red", "second");
    lab.make("green", Some("red")).unwrap();
    assert_eq!(lab.names("green"), [vec![], vec!["second"], vec!["first"]]);
    assert_eq!(lab.names("blue"), [vec![], vec!["first"]]);
    assert_eq!(served.counters().left_in_work, 0);
    assert!(!lab.paths("red").next_upper().exists() && !lab.paths("red").sealing().exists());
}

#[test]
fn a_command_killed_while_a_served_space_is_held_leaves_it_served_and_whole() {
    let steps: Vec<_> = seal::BEFORE.iter().chain(&seal::MOVES).chain(&seal::AFTER).collect();
    for killed in 0..=steps.len() {
        let lab = Lab::new();
        let (_lock, _served) = serve(&lab, "red");
        lab.write("red", "first");
        let paths = lab.paths("red");
        let lineage = Lineage::load(&paths).unwrap().unwrap();
        let sealing = Sealing::new(&lab.spaces.paths, &name("red"), &paths, &lineage).unwrap();
        sealing.do_step(Sealing::make_next).unwrap();
        let mut holding = None;
        for (number, step) in steps.iter().enumerate().take(killed) {
            if number == seal::BEFORE.len() {
                holding = Some(::seal::Holding::ask(&paths.seal_socket().unwrap()).unwrap());
            }
            sealing.do_step(**step).unwrap();
        }
        drop(holding);
        // Who asks next is answered once the one before is known to be gone.
        lab.make("blue", Some("red")).unwrap();
        assert_eq!(lab.names("blue"), [vec![], vec!["first"]], "after step {killed}");
        lab.write("red", "second");
        lab.make("green", Some("red")).unwrap();
        assert_eq!(lab.names("green"), [vec![], vec!["second"], vec!["first"]], "step {killed}");
    }
}
