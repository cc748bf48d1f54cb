//! A machine whose programs use files at the same time.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use cli::lab::{Lab, Peer};
use rustix::process::{Pid, Signal, kill_process};
use switch::overlay::Cipher;
use tests::{Space, eventually, ignore, run};

use crate::{Mounts, text, umount};

/// Longer than what the guest, the relays and read-ahead hold on the way.
const LONG: usize = 24 << 20;

pub(crate) fn paused(lab: &Lab) {
    if let Err(missing) = tests::means() {
        ignore(missing);
    }
    let parent = lab.a.directory.join("parent");
    fs::create_dir_all(&parent).unwrap();
    fs::write(parent.join("long"), vec![b'x'; LONG]).unwrap();
    let blue = Space::configure(lab, "blue", Peer::B, Cipher::AesCbc128, Some(&parent));
    blue.start();
    let mut cat = lab.a.portspace(&["run", "blue", "--", "cat", "/long"]);
    let mut cat = cat.stdout(Stdio::piped()).spawn().unwrap();
    // Everything on the way is full once no thread of the machine has anything to do.
    let pid = blue.inspect()["vm"]["pid"].as_u64().unwrap();
    let mut before = None;
    eventually("everything on the way is full", || {
        let now = Some(turns(pid));
        now == std::mem::replace(&mut before, now)
    });
    let mut out = Vec::new();
    cat.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    assert!(cat.wait().unwrap().success());
    assert_eq!(out.len(), LONG);
    fs::remove_dir_all(&parent).unwrap();
}

/// How often the threads of the process began to wait.
fn turns(pid: u64) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    let count = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse::<u64>().ok())
    };
    status.filter_map(count).sum()
}

pub(crate) fn waiting(lab: &Lab) {
    if let Err(missing) = tests::means() {
        ignore(missing);
    }
    let around = lab.a.directory.join("around");
    fs::create_dir_all(around.join("slow")).unwrap();
    // A file system that can be made to wait: another space's, whose server is stopped.
    let mut slow = Mounts::new(lab);
    slow.directory = around.join("slow");
    // With a quota the kernel reads nothing by itself.
    let text = format!("[files]\nroot = {:?}\nquota = \"1G\"\n", slow.lower);
    fs::write(&slow.file, text).unwrap();
    fs::write(slow.lower.join("long"), vec![b'x'; LONG]).unwrap();
    slow.must_mount();
    fs::write(around.join("plain"), "at once").unwrap();
    let blue = Space::configure(lab, "blue", Peer::B, Cipher::AesCbc128, Some(&around));
    blue.start();

    let mut cat = lab.a.portspace(&["run", "blue", "--", "cat", "/slow/long"]);
    let mut cat = cat.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = cat.stdout.take().unwrap();
    out.read_exact(&mut [0]).unwrap();
    let server = Server::stop(slow.process());
    let rest = std::thread::scope(|scope| {
        // Goes on before the reader is waited for, whatever fails.
        let server = server;
        let reader = scope.spawn(|| {
            let mut rest = Vec::new();
            out.read_to_end(&mut rest).map(|_| rest.len())
        });
        let pid = blue.inspect()["vm"]["pid"].as_u64().unwrap();
        eventually("the server of blue's files waits", || is_reading(pid));
        for _ in 0..5 {
            let plain = blue.run(&["cat", "/plain"]);
            assert_eq!(plain.out, "at once", "{}", plain.why());
            let written = blue.run_with_input(&["write", "/own"], b"meanwhile");
            assert!(written.ok(), "{}", written.why());
        }
        assert!(is_reading(pid) && !reader.is_finished());
        drop(server);
        reader.join().unwrap().unwrap()
    });
    assert!(cat.wait().unwrap().success());
    assert_eq!(rest + 1, LONG);
}

/// A mount process that answers nothing until this is dropped, whatever becomes of the test.
struct Server(Pid);

impl Server {
    fn stop(pid: u64) -> Server {
        let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Server(pid)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Whether a thread of the process is in pread(2).
fn is_reading(pid: u64) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let calls = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("syscall")).ok());
    let mut calls = calls.filter_map(|call| call.split(' ').next()?.parse::<i64>().ok());
    calls.any(|call| call == PREAD)
}

/// pread64(2) on x86-64.
const PREAD: i64 = 17;

pub(crate) fn many(lab: &Lab) {
    if let Err(missing) = tests::means() {
        ignore(missing);
    }
    let parent = lab.a.directory.join("parent");
    fs::create_dir_all(&parent).unwrap();
    let bytes = |number: usize| -> Vec<u8> {
        (0..300_000 + number).map(|at| ((at * (number + 3)) >> 7) as u8).collect()
    };
    for number in 0..8 {
        fs::write(parent.join(format!("{number}")), bytes(number)).unwrap();
    }
    let blue = Space::configure(lab, "blue", Peer::B, Cipher::AesCbc128, Some(&parent));
    blue.start();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (parent, bytes) = (&parent, bytes(number));
            scope.spawn(move || {
                let (own, made) = (format!("/{number}"), format!("/made-{number}"));
                let input = parent.join(format!("input-{number}"));
                for round in 0..6 {
                    assert!(inside(lab, &["cat", &own], None) == bytes, "{own}");
                    let text = bytes[..50_000 * (round + 1)].to_vec();
                    fs::write(&input, &text).unwrap();
                    inside(lab, &["write", &made], Some(crate::text(&input)));
                    assert!(inside(lab, &["cat", &made], None) == text, "{made}");
                    let names = inside(lab, &["ls", "-l"], None);
                    assert!(String::from_utf8(names).unwrap().contains(&made[1..]));
                }
            });
        }
    });
    fs::remove_dir_all(&parent).unwrap();
}

/// What a program of blue's writes.
fn inside(lab: &Lab, program: &[&str], input: Option<&str>) -> Vec<u8> {
    let mut command: Command = lab.a.portspace(&[&["run", "blue", "--"], program].concat());
    if let Some(path) = input {
        command.stdin(fs::File::open(path).unwrap());
    }
    let ended = command.output().unwrap();
    assert!(ended.status.success(), "{program:?}: {}", String::from_utf8_lossy(&ended.stderr));
    ended.stdout
}

pub(crate) fn awake(lab: &Lab) {
    let driver = fs::read_to_string("/sys/devices/system/cpu/cpuidle/current_driver");
    let cores = std::thread::available_parallelism().unwrap().get();
    let is_of_use = driver.is_ok_and(|driver| driver.trim() == "haltpoll") && cores <= 8;
    let red = Mounts::new(lab);
    let before = demanded();
    for (frugal, kept) in [(&["--frugal"][..], before), (&[], if is_of_use { 0 } else { before })] {
        let mount = [&["mount", text(&red.file), text(&red.directory)], frugal].concat();
        assert!(run(lab, &mount).ok());
        let is_kept = (0..20_000).any(|name| {
            // There is no such name, and nothing of it is kept: the process is asked.
            assert!(fs::metadata(red.at(&name.to_string())).is_err());
            name > 1000 && demanded() == kept
        });
        assert!(is_kept, "{kept} is demanded while requests come, with {frugal:?}");
        eventually("nothing more is demanded", || demanded() == before);
        assert!(umount(&red.directory));
    }
}

/// The soonest that anybody demands of idle cores to wake up, microseconds.
fn demanded() -> i32 {
    let bytes = fs::read("/dev/cpu_dma_latency");
    let bytes = bytes.unwrap_or_else(|error| ignore(format!("/dev/cpu_dma_latency: {error}")));
    i32::from_ne_bytes(*bytes.first_chunk().unwrap())
}
