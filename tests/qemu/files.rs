//! A space's files inside a Linux nobody here wrote, through its own virtio-fs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use cli::lab::service::{Service, finish};
use cli::lab::{Lab, Peer};
use switch::overlay::Cipher;
use tests::{Linux, PATIENCE, Space, eventually, ignore, run};

use crate::machine::{Image, file_system};

/// A space whose files are plugged in.
struct Plugged<'a> {
    lab: &'a Lab,
    space: Space<'a>,
    /// The parent's files, which are seen inside if `is_root`.
    lower: PathBuf,
    upper: PathBuf,
    socket: PathBuf,
    plug: Service,
}

impl<'a> Plugged<'a> {
    /// One over what `fill` puts into a directory of the parent, or over nothing.
    fn new(lab: &'a Lab, fill: Option<impl FnOnce(&Path)>) -> Plugged<'a> {
        let lower = lab.a.directory.join("lower");
        fs::create_dir_all(&lower).unwrap();
        let root = fill.map(|fill| {
            fill(&lower);
            &*lower
        });
        let space = Space::configure(lab, "green", Peer::B, Cipher::AesCbc256, root);
        let (net, socket) = ("net.sock", lab.a.directory.join("files.sock"));
        let file = space.file.to_str().unwrap();
        let arguments = ["plug", file, "--socket", net, "--files", socket.to_str().unwrap()];
        let mut plug = Service::start(&lab.a, "plug", lab.a.portspace(&arguments)).unwrap();
        eventually("the space is plugged in", || {
            plug.must_run().unwrap();
            run(lab, &["ls"]).out.contains("awaited")
        });
        let upper = space.inspect()["upper"].as_str().unwrap().into();
        Plugged { lab, space, lower, upper, socket, plug }
    }

    /// A machine that has mounted the space on /mnt.
    fn boot(&self) -> Linux {
        let image = Image::build(self.lab).unwrap_or_else(|missing| ignore(missing));
        let mut linux = image.boot(self.lab, &file_system(&self.socket, "files"));
        linux.must("mkdir /mnt");
        linux.must("mount -t virtiofs files /mnt");
        linux
    }

    fn written(&self, path: &str) -> String {
        fs::read_to_string(self.upper.join(path)).unwrap()
    }
}

fn fill(lower: &Path) {
    for directory in ["d", "many"] {
        fs::create_dir_all(lower.join(directory)).unwrap();
    }
    for (path, text) in [("plain", "the host's"), ("d/below", "below"), ("gone", ""), ("live", "1")]
    {
        fs::write(lower.join(path), text).unwrap();
    }
    (0..300).for_each(|number| fs::write(lower.join(format!("many/{number}")), "").unwrap());
    fs::write(lower.join("large"), large()).unwrap();
    symlink("d/below", lower.join("link")).unwrap();
}

fn large() -> Vec<u8> {
    (0..3_u32 << 20).map(|n| (n.wrapping_mul(n) >> 9) as u8).collect()
}

pub(crate) fn seen(lab: &Lab) {
    let mut place = Plugged::new(lab, Some(fill));
    let mut linux = place.boot();
    let mut is = |line: &str, said: &str| assert_eq!(linux.must(line).trim(), said, "{line}");
    is("cat /mnt/plain /mnt/link", "the host'sbelow");
    is("ls /mnt/many | wc -l", "300");
    is("ls -l /mnt/many | grep -c ' 0 .* 0 '", "300");
    // Read and copied up, in pieces of many pages.
    is("cp /mnt/large /mnt/copy && cmp /mnt/large /mnt/copy && echo same", "same");
    is("echo inside >>/mnt/plain; cat /mnt/plain", "the host'sinside");
    is("mv /mnt/d /mnt/moved; cat /mnt/moved/below; cat /mnt/link 2>&1 | wc -l", "below1");
    is("rm /mnt/gone; ls /mnt | tr '\\n' ' '", "copy large link live many moved plain");
    is("ln /mnt/plain /mnt/other; stat -c %h /mnt/plain", "2");
    is("chown 12:34 /mnt/copy; chmod 4750 /mnt/copy; stat -c '%a %u:%g' /mnt/copy", "4750 12:34");
    is("mknod /mnt/null c 1 3; stat -c '%F %t,%T' /mnt/null", "character special file 1,3");
    is("exec 3</mnt/moved/below; rm /mnt/moved/below; cat <&3; exec 3<&-", "below");
    is("truncate -s 5 /mnt/copy; wc -c </mnt/copy", "5");
    is(
        "mkdir /mnt/new && rmdir /mnt/new /mnt/moved && ls -d /mnt/moved 2>&1 | grep -c 'No such'",
        "1",
    );
    is("cat /mnt/live", "1");
    fs::write(place.lower.join("live"), "2").unwrap();
    fs::write(place.lower.join("late"), "later").unwrap();
    is("cat /mnt/live /mnt/late", "2later");
    is(
        "df /mnt | wc -l; sync; umount /mnt; mount -t virtiofs files /mnt; cat /mnt/other",
        "2\nthe host'sinside",
    );
    sealed(&place, &mut linux);
    // Killed in the middle of its work; the next goes on with what was written.
    linux.must("exec 4>>/mnt/live; echo more >&4; rm /mnt/copy");
    drop(linux);
    let mut next = place.boot();
    let mut is = |line: &str, said: &str| assert_eq!(next.must(line).trim(), said, "{line}");
    is("cat /mnt/plain /mnt/live", "the host'sinside\n2more");
    is("ls /mnt/copy 2>&1 | grep -c 'No such'", "1");
    drop(next);
    let parents = ["plain", "live"].map(|name| fs::read_to_string(place.lower.join(name)).unwrap());
    assert_eq!((parents.concat().as_str(), &*place.written("live")), ("the host's2", "2more\n"));
    assert!(fs::read(place.lower.join("large")).unwrap() == large());
    commands(&mut place);
}

/// A space is made from it while the machine runs: neither sees what the other writes from then on.
fn sealed(place: &Plugged<'_>, linux: &mut Linux) {
    let lab = place.lab;
    let [file, at] = ["kid.toml", "kid"].map(|name| lab.a.directory.join(name));
    fs::write(&file, "[space]\nname = \"kid\"\nparent = \"green\"\n").unwrap();
    fs::create_dir_all(&at).unwrap();
    linux.must("exec 5>>/mnt/before; echo before >&5; sync");
    let mounted = run(lab, &["mount", file.to_str().unwrap(), at.to_str().unwrap()]);
    assert!(mounted.ok(), "{}", mounted.why());
    linux.must("echo after >&5; exec 5>&-; echo >/mnt/after");
    let script = format!("cd {} && cat before plain && ls after; echo >own", at.display());
    let seen = finish(lab.a.command("sh").args(["-c", &script]), PATIENCE).unwrap();
    assert_eq!(seen.out, "before\nthe host'sinside\n", "{}", seen.why());
    assert_eq!(
        linux.must("cat /mnt/before; ls /mnt/own 2>&1 | grep -c 'No such'"),
        "before\nafter\n1"
    );
    for command in ["stop", "rm"] {
        assert!(run(lab, &[command, "kid"]).ok());
    }
}

/// What other commands say of a space whose files are plugged in.
fn commands(place: &mut Plugged<'_>) {
    let (lab, name) = (place.lab, place.space.name);
    let diff = run(lab, &["diff", name]);
    assert!(
        diff.ok() && diff.out.contains("of layer green/1") && diff.out.contains("live"),
        "{}",
        diff.out
    );
    let file = place.space.file.to_str().unwrap();
    for refused in [&["up", file][..], &["mount", name, "."], &["discard", name], &["rm", name]] {
        let why = run(lab, refused).why();
        assert!(why.contains("space green is plugged in at"), "{refused:?}: {why}");
        assert!(why.contains("first: portspace stop green"), "{refused:?}: {why}");
    }
    let stopped = run(lab, &["stop", name]);
    assert!(stopped.out.contains("space green is no longer plugged in at"), "{}", stopped.why());
    eventually("plug ends with its files", || place.plug.must_run().is_err());
    assert!(!place.socket.exists());
}

pub(crate) fn written_back(lab: &Lab) {
    let place = Plugged::new(lab, None::<fn(&Path)>);
    let mut linux = place.boot();
    // Whoever writes keeps the file open until it is told: closing writes back.
    linux.must("mkfifo /tmp/go");
    linux.must(
        "(i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done; cat /tmp/go) >/mnt/lines &",
    );
    let lines: String = (0..300).map(|number| format!("line {number}\n")).collect();
    let size = format!("until [ $(stat -c %s /mnt/lines) = {} ]; do sleep 0.1; done", lines.len());
    linux.must(&size);
    assert_eq!(place.written("lines"), "", "the kernel gathers what is written");
    linux.must("echo >/tmp/go; wait; printf L | dd of=/mnt/lines conv=notrunc; sync");
    assert_eq!(place.written("lines"), lines.replacen('l', "L", 1) + "\n");
    linux.must(
        "cp /mnt/lines /tmp; umount /mnt; mount -t virtiofs files /mnt; cmp /mnt/lines /tmp/lines",
    );
}
