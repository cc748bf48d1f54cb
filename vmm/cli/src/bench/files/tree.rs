//! The tree that all systems show: a repository, a large file, files to be written in.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{Failure, Outcome, While};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Files of the repository, and of what is extracted and removed.
    pub files: usize,
    /// Files that are created, renamed and unlinked.
    pub changes: usize,
    /// Reads and writes of 4 KiB.
    pub accesses: usize,
    /// Bytes that are read and written in sequence.
    pub large_bytes: usize,
    /// Bytes of a file that is read and written at random.
    pub scattered_bytes: usize,
}

impl Sizes {
    /// What the figures of the documentation are of.
    pub const FULL: Self = Self {
        files: 20_000,
        changes: 4_000,
        accesses: 20_000,
        large_bytes: 256 << 20,
        scattered_bytes: 32 << 20,
    };

    /// What takes a few seconds.
    pub const QUICK: Self = Self {
        files: 2_000,
        changes: 500,
        accesses: 2_000,
        large_bytes: 32 << 20,
        scattered_bytes: 4 << 20,
    };
}

/// A file of the repository has at most so many bytes.
const LONGEST: usize = 4096;

/// A file to be made: its name, and where in the contents it begins and ends.
#[derive(Debug)]
pub(super) struct Small {
    pub(super) name: PathBuf,
    bytes: std::ops::Range<usize>,
}

/// What is in the lower tree.
pub(super) struct Tree {
    pub(super) sizes: Sizes,
    /// The directories of the repository, each before those in it.
    pub(super) directories: Vec<PathBuf>,
    pub(super) small: Vec<Small>,
    /// A MiB of noise of which all contents are parts.
    noise: Vec<u8>,
    rounds: u32,
    has_git: bool,
}

/// Numbers without order, the same in every run (xorshift64).
pub(super) struct Noise(u64);

impl Noise {
    pub(super) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

impl Tree {
    pub(super) fn new(sizes: Sizes, rounds: u32) -> Self {
        let mut random = Noise::new();
        let noise: Vec<u8> = (0..1 << 20).map(|_| random.below(256) as u8).collect();
        let mut directories = Vec::new();
        let mut small = Vec::new();
        for at in 0..sizes.files {
            let (outer, inner) = (at / 400, at / 20 % 20);
            let directory = PathBuf::from(format!("part{outer:03}/module{inner:02}"));
            if at % 400 == 0 {
                directories.push(PathBuf::from(format!("part{outer:03}")));
            }
            if at % 20 == 0 {
                directories.push(directory.clone());
            }
            let start = random.below(noise.len() - LONGEST);
            let bytes = start..start + 100 + random.below(LONGEST - 100);
            small.push(Small { name: directory.join(format!("source{at:05}.c")), bytes });
        }
        let asked = Command::new("git").arg("--version").stdout(Stdio::null()).status();
        let has_git = asked.is_ok_and(|status| status.success());
        Self { sizes, directories, small, noise, rounds, has_git }
    }

    /// Whether there is a `git` to ask for the state of the repository.
    pub(super) fn has_repository(&self) -> bool {
        self.has_git
    }

    /// The contents of a small file.
    pub(super) fn contents(&self, small: &Small) -> &[u8] {
        &self.noise[small.bytes.clone()]
    }

    /// Makes all of it in `root`.
    pub(super) fn populate(&self, root: &Path) -> Outcome<()> {
        let failed = || format!("cannot fill {}; is its disk full?", root.display());
        let repository = root.join("repository");
        fs::create_dir_all(&repository).or_fail(failed)?;
        self.extract(&repository).or_fail(failed)?;
        self.fill(&root.join("large"), self.sizes.large_bytes).or_fail(failed)?;
        let scattered = root.join("scattered");
        fs::create_dir(&scattered).or_fail(failed)?;
        self.fill(&scattered.join("read"), self.sizes.scattered_bytes).or_fail(failed)?;
        for round in 0..self.rounds {
            let path = scattered.join(round.to_string());
            self.fill(&path, self.sizes.scattered_bytes).or_fail(failed)?;
        }
        if !self.has_git {
            return Ok(());
        }
        for arguments in [
            &["init", "--quiet"][..],
            &["add", "--all"],
            &["commit", "--quiet", "--message", "All of it"],
            &["repack", "-a", "-d", "--quiet"],
            &["prune-packed", "--quiet"],
        ] {
            run(git(root).args(arguments))?;
        }
        Ok(())
    }

    /// Makes the repository's files, as `tar -x` does.
    pub(super) fn extract(&self, root: &Path) -> std::io::Result<()> {
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        let times = fs::FileTimes::new().set_modified(long_ago).set_accessed(long_ago);
        for directory in &self.directories {
            fs::create_dir(root.join(directory))?;
        }
        for small in &self.small {
            let mut file = File::create_new(root.join(&small.name))?;
            file.write_all(self.contents(small))?;
            file.set_times(times)?;
        }
        Ok(())
    }

    /// Writes a file of `length` bytes, 128 KiB at a time.
    pub(super) fn fill(&self, path: &Path, length: usize) -> std::io::Result<()> {
        const BLOCK: usize = 128 << 10;
        let mut file = File::create(path)?;
        let mut blocks = self.noise.chunks(BLOCK).cycle();
        for start in (0..length).step_by(BLOCK) {
            let block = blocks.next().unwrap_or_default();
            file.write_all(&block[..block.len().min(length - start)])?;
        }
        Ok(())
    }

    /// Has git note what the files look like through this system: from then on it only looks.
    pub(super) fn settle(&self, root: &Path) -> Outcome<()> {
        match self.has_git {
            true => run(git(root).args(["status", "--porcelain"])),
            false => Ok(()),
        }
    }

    /// `git status`, which must find nothing.
    pub(super) fn status(&self, root: &Path) -> Outcome<()> {
        run(git(root).env("GIT_OPTIONAL_LOCKS", "0").args(["status", "--porcelain"]))
    }
}

/// Git in the repository, without anybody's configuration.
fn git(root: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(root.join("repository"))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args(["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0"])
        .stdin(Stdio::null());
    command
}

/// Runs a program that must succeed and say nothing.
fn run(command: &mut Command) -> Outcome<()> {
    let failed = || "cannot run git".to_owned();
    let output = command.output().or_fail(failed)?;
    if output.status.success() && output.stdout.is_empty() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let said = said.lines().next().unwrap_or("nothing");
    Err(Failure::new(format!("git ended with {} and said: {said}", output.status)))
}
