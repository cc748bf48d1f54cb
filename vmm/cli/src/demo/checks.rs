//! What has to be so in the demo, each as one line of the report.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use super::{BLUE, HTTP_PORT, PARCEL, PARCEL_BYTES, PATIENCE, RED, Scene, TRY};
use crate::failure::{Outcome, While};
use crate::lab::service::Ended;
use crate::lab::{self, Peer};
use crate::progress::Progress;
use crate::report::Report;

/// The parent's file that `red` changes for itself.
pub(super) const NOTES: &[u8] = b"written by the parent\n";

/// Makes every check but that of the capture.
pub(super) fn run(scene: &Scene<'_>, progress: &Progress, report: &mut Report) -> Outcome<()> {
    progress.step("red fetches a file from B");
    fetch(scene, report)?;
    progress.step("red changes a file of the parent for itself");
    copy_on_write(scene, report)?;
    progress.step("blue fetches from C; neither reaches the other's peer, nor A's own services");
    separation(scene, report)?;
    progress.step("red sends raw frames that are not its own");
    raw_frames(scene, report)
}

fn url(address: impl std::fmt::Display) -> String {
    format!("http://{address}:{HTTP_PORT}/{PARCEL}")
}

fn fetch(scene: &Scene<'_>, report: &mut Report) -> Outcome<()> {
    let before = listing(&scene.parent)?;
    let from = url(RED.peer.address());
    let to = format!("/{PARCEL}");
    let fetched = scene.run(RED, &["fetch", &from, "-o", &to], PATIENCE)?;
    let detail = match fetched.ok() {
        true => format!("{} KiB from {} on {}", PARCEL_BYTES / 1024, scene.server, RED.binding()),
        false => format!("from {} on {}: {}", scene.server, RED.binding(), fetched.why()),
    };
    report.check("red fetches a file over HTTP", fetched.ok(), detail);
    let inside = scene.run(RED, &["sha256", &to], PATIENCE)?;
    let seen = inside.out.split_whitespace().next().unwrap_or_default();
    let upper = scene.lab.a.directory.join("state/spaces/red/own/upper").join(PARCEL);
    let outside = std::fs::read(&upper).map(|bytes| sha256(&bytes)).unwrap_or_default();
    let ok = seen == scene.parcel && outside == scene.parcel;
    let detail = match ok {
        true => format!("{seen} on B, inside red, and in red's own layer"),
        false => format!("B {}, inside {seen:?} {}, layer {outside:?}", scene.parcel, inside.said),
    };
    report.check("the SHA-256 matches", ok, detail);
    let after = listing(&scene.parent)?;
    let detail = format!("{} files, same names and contents", after.len());
    report.check("the parent's directory is unchanged by it", before == after, detail);
    Ok(())
}

fn copy_on_write(scene: &Scene<'_>, report: &mut Report) -> Outcome<()> {
    const OWN: &str = "written by red\n";
    let read = scene.run(RED, &["cat", "/notes.txt"], PATIENCE)?;
    let first = read.out.as_bytes() == NOTES;
    let written = scene.run_with_input(RED, &["write", "/notes.txt"], OWN)?;
    let again = scene.run(RED, &["cat", "/notes.txt"], PATIENCE)?;
    let path = scene.parent.join("notes.txt");
    let parents = std::fs::read(&path).or_fail(|| format!("cannot read {}", path.display()))?;
    let ok = first && written.ok() && again.out == OWN && parents == NOTES;
    let detail = match ok {
        true => "red sees its own, the parent's stays as it was".to_owned(),
        false => format!(
            "read {:?} {}, write {}, read again {:?} {}, parent's {:?}",
            read.out,
            read.said,
            written.why(),
            again.out,
            again.said,
            String::from_utf8_lossy(&parents)
        ),
    };
    report.check("a file red writes is copied up", ok, detail);
    Ok(())
}

fn separation(scene: &Scene<'_>, report: &mut Report) -> Outcome<()> {
    // Without this, an unreachable C would prove nothing about red.
    let control = scene.run(BLUE, &["fetch", &url(BLUE.peer.address()), "-o", "/got"], PATIENCE)?;
    let detail = match control.ok() {
        true => format!("through {}", BLUE.binding()),
        false => control.why(),
    };
    report.check("blue reaches C", control.ok(), detail);
    let to_peer = |peer: Peer| (format!("cannot reach {}", peer.letter()), url(peer.address()));
    let own = format!("http://{}:{HTTP_PORT}/notes.txt", lab::A);
    let to_own = || ("cannot reach A's service".to_owned(), own.clone());
    let tries =
        [(RED, to_peer(Peer::C)), (BLUE, to_peer(Peer::B)), (RED, to_own()), (BLUE, to_own())];
    let server = SocketAddr::from((lab::A, HTTP_PORT));
    let answer = scene.lab.a.run(|| request(server))?;
    let ok = answer.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.0 200"));
    let detail = answer.map_or_else(|error| error.to_string(), |_| format!("at {server}"));
    report.check("A reaches its own service", ok, detail);
    // All at once: each may take until the guest gives up by itself.
    let ended: Vec<Outcome<Ended>> = std::thread::scope(|scope| {
        let running = tries.each_ref().map(|(role, (_, url))| {
            scope.spawn(|| scene.run(*role, &["fetch", url, "-o", "/nothing"], PATIENCE))
        });
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().expect("waiting for a program does not panic")
        };
        running.into_iter().map(join).collect()
    });
    for ((role, (what, url)), ended) in tries.iter().zip(ended) {
        let ended = ended?;
        // What did not end by itself, or is no program inside, proves nothing.
        let ok = ended.status.is_some_and(|status| status != 0 && status != 127);
        let detail = if ended.ok() { format!("it did, at {url}") } else { ended.why() };
        report.check(&format!("{} {what}", role.name), ok, detail);
    }
    for role in [RED, BLUE] {
        let alive = scene.run(role, &["true"], PATIENCE)?;
        let detail = if alive.ok() { "it runs programs".to_owned() } else { alive.why() };
        report.check(&format!("{} is still well", role.name), alive.ok(), detail);
    }
    Ok(())
}

/// Frames that must go nowhere; that they did not is the capture's to say.
fn raw_frames(scene: &Scene<'_>, report: &mut Report) -> Outcome<()> {
    let source = [0x02, 0, 0, 0, 0, 0x66];
    let ethernet = |to: [u8; 6], kind: [u8; 2]| [&to[..], &source, &kind].concat();
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a String takes every write");
            text
        })
    };
    let [_, far] = Peer::C.macs();
    let mut arp = ethernet([0xff; 6], [8, 6]);
    arp.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend(source);
    arp.extend(lab::A.octets());
    arp.extend([0; 6]);
    arp.extend(Peer::C.address().octets());
    let mut foreign = ethernet(far, [8, 0]);
    foreign.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 99]);
    foreign.extend(Peer::C.address().octets());
    foreign.extend([0, 53, 0, 53, 0, 8, 0, 0]);
    let mut multicast = ethernet([0x01, 0, 0x5e, 0, 0, 0xfb], [8, 0]);
    multicast.extend([0x45, 0, 0, 28, 0, 0, 0x20, 0, 1, 17, 0, 0, 192, 0, 2, 10, 224, 0, 0, 251]);
    multicast.extend([0x14, 0xe9, 0x14, 0xe9, 0, 8, 0, 0]);
    let frames = [arp, foreign, multicast].map(|frame| hex(&frame));
    let [a, b, c] = &frames;
    let sent = scene.run(RED, &["raw", a, b, c], PATIENCE)?;
    let detail = match sent.ok() {
        true => "ARP, another source, multicast: handed to the switch".to_owned(),
        false => sent.why(),
    };
    report.check("red sends raw frames", sent.ok(), detail);
    Ok(())
}

/// The first line of the answer to a plain request.
fn request(server: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, TRY)?;
    stream.set_read_timeout(Some(TRY))?;
    stream.write_all(b"GET /notes.txt HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Names and contents of a directory's files.
fn listing(directory: &Path) -> Outcome<BTreeMap<String, String>> {
    let failed = || format!("cannot list {}", directory.display());
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).or_fail(failed)? {
        let entry = entry.or_fail(failed)?;
        let bytes = std::fs::read(entry.path()).or_fail(failed)?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), sha256(&bytes));
    }
    Ok(files)
}

/// SHA-256 in hex digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every write");
        text
    })
}
