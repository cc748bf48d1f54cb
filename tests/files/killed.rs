//! The server killed at any moment: what was done is done, what was not is not half done.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cli::lab::Lab;

use crate::mounted::Mounted;
use crate::random::Random;

const EIO: i32 = 5;

const KILLS: usize = 500;

/// A machine that is this slow does fewer, and says so.
const LONGEST: Duration = Duration::from_secs(180);
const LEAST_KILLS: usize = 100;

/// Names that are written over and over; the first half is in the lower tree.
const NAMES: usize = 24;

/// What the file of a name must be: one version, or either of two while a change is under way.
#[derive(Clone, Debug, Default)]
struct Known {
    now: Option<u64>,
    /// What it may be as well: the change to it was not answered.
    next: Option<Option<u64>>,
}

/// What the programs on the mount have been told.
struct Workload {
    root: PathBuf,
    known: BTreeMap<usize, Known>,
    version: u64,
    random: Random,
}

/// Contents that say which version they are, and whether they are whole.
fn contents(name: usize, version: u64) -> Vec<u8> {
    let length = 100 + (version as usize * 7919 + name) % 40_000;
    let mut bytes = format!("{name} {version} {length}\n").into_bytes();
    bytes.resize(length, version as u8);
    bytes
}

/// The version of what is there; fails if it is not whole.
fn version(path: &Path, name: usize) -> Option<u64> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => panic!("{}: {error}", path.display()),
    };
    let head = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let head = String::from_utf8_lossy(head).into_owned();
    let version = head.split(' ').nth(1).and_then(|version| version.parse().ok());
    let version = version.unwrap_or_else(|| {
        panic!("{}: {} bytes that begin with {head:.40?}", path.display(), bytes.len())
    });
    assert!(bytes == contents(name, version), "{}: version {version} is not whole", path.display());
    Some(version)
}

impl Workload {
    fn path(&self, name: usize) -> PathBuf {
        self.root.join(format!("directory{}/file{name}", name % 3))
    }

    /// Changes files until one change fails: then the server is dead.
    fn run(&mut self) -> io::Error {
        loop {
            let name = self.random.below(NAMES);
            if let Err(error) = self.change(name) {
                return error;
            }
            // It was answered, so it is so.
            let known = self.known.entry(name).or_default();
            if let Some(next) = known.next.take() {
                known.now = next;
            }
        }
    }

    fn expect(&mut self, name: usize, next: Option<u64>) {
        self.known.entry(name).or_default().next = Some(next);
    }

    fn change(&mut self, name: usize) -> io::Result<()> {
        let path = self.path(name);
        let is_there = self.known.get(&name).is_some_and(|known| known.now.is_some());
        self.version += 1;
        match self.random.below(8) {
            0 if is_there => {
                self.expect(name, None);
                fs::remove_file(&path)
            }
            1 if is_there => {
                // To another name and back: between the two it is not there.
                let aside = self.root.join("directory0/aside");
                let now = self.known[&name].now;
                self.expect(name, None);
                fs::rename(&path, &aside)?;
                self.known.entry(name).or_default().now = None;
                self.expect(name, now);
                fs::rename(&aside, &path)
            }
            _ => {
                let temporary = path.with_extension("new");
                let mut file = File::create(&temporary)?;
                file.write_all(&contents(name, self.version))?;
                file.sync_all()?;
                drop(file);
                self.expect(name, Some(self.version));
                fs::rename(&temporary, &path)
            }
        }
    }

    /// Fails where a file is not what it may be; takes over which of the two it is.
    fn check(&mut self, kill: usize) {
        for name in 0..NAMES {
            let found = version(&self.path(name), name);
            let known = self.known.entry(name).or_default();
            assert!(
                found == known.now || known.next == Some(found),
                "kill {kill}: file{name} is {found:?} and can be {known:?}"
            );
            *known = Known { now: found, next: None };
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test may look at the clock")]
pub(super) fn whole(lab: &Lab) {
    let mut mounted = Mounted::new(lab, |lower| {
        for name in 0..NAMES {
            let directory = lower.join(format!("directory{}", name % 3));
            fs::create_dir_all(&directory).unwrap();
            if name < NAMES / 2 {
                fs::write(directory.join(format!("file{name}")), contents(name, 0)).unwrap();
            }
        }
    });
    let known = |name| (name, Known { now: (name < NAMES / 2).then_some(0), next: None });
    let mut workload = Workload {
        root: mounted.root.clone(),
        known: (0..NAMES).map(known).collect(),
        version: 0,
        random: Random(0x2545_f491_4f6c_dd1d),
    };
    let mut moments = Random(0x9e37_79b9_7f4a_7c15);
    let start = Instant::now();
    let mut kills = 0;
    while kills < KILLS && start.elapsed() < LONGEST {
        let moment = Duration::from_micros(moments.below(40_000) as u64);
        let failed = std::thread::scope(|scope| {
            let workload = scope.spawn(|| workload.run());
            std::thread::sleep(moment);
            assert!(!workload.is_finished(), "kill {kills}: {:?}", workload.join().map_err(drop));
            mounted.kill();
            workload.join().unwrap()
        });
        // Or EIO, of what was under way; without the mount there is the empty directory below it.
        let kinds = [ErrorKind::NotConnected, ErrorKind::ConnectionAborted, ErrorKind::NotFound];
        let is_death = kinds.contains(&failed.kind()) || failed.raw_os_error() == Some(EIO);
        assert!(is_death, "kill {kills}: {failed}");
        mounted.mount();
        workload.check(kills);
        kills += 1;
    }
    eprintln!(
        "{kills} kills in {:.0} s, {} changes",
        start.elapsed().as_secs_f64(),
        workload.version
    );
    assert!(kills >= LEAST_KILLS, "only {kills} kills in {LONGEST:?}");
    mounted.must_last();
    workload.check(kills);
    mounted.end();
}
