//! The programs inside. Each is an async function from its context to its exit status.

mod blk;
mod descriptor;
mod file;
mod flow;
mod network;
mod raw;
mod rtt;
mod show;

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

pub use descriptor::{Descriptor, NotOpened};

use crate::counters::Counters;
use crate::disk::Disks;
use crate::files::Files;
use crate::hardware::Cpu;
use crate::net::Net;
use crate::pipe::{Input, Writer};
use crate::timers::Timers;

/// What a program may use of the machine.
#[derive(Clone)]
pub struct System {
    /// Time and memory.
    pub cpu: Rc<dyn Cpu>,
    /// Waiting.
    pub timers: Timers,
    /// The network; `None` if the space has no network device.
    pub net: Option<Rc<Net>>,
    /// The file space.
    pub files: Files,
    /// The disks.
    pub disks: Disks,
    /// What happened so far.
    pub counters: Rc<Counters>,
    /// Bytes of memory the image takes.
    pub image_bytes: usize,
}

/// What one run of a program has.
pub struct Context {
    /// The machine.
    pub system: System,
    /// Arguments, without the program's name.
    pub arguments: Vec<String>,
    /// Where relative paths begin.
    pub directory: String,
    /// Standard input.
    pub input: Input,
    /// Standard output.
    pub output: Writer,
    /// Standard error.
    pub errors: Writer,
    /// Files that are open from the start, by number: `/dev/fd/NUMBER`.
    pub files: BTreeMap<u32, Descriptor>,
}

/// Exit status of a program that was used wrongly.
const USAGE: u8 = 2;

/// Exit status if there is no such program.
const UNKNOWN: u8 = 127;

/// Every program: name, arguments, purpose.
const PROGRAMS: [(&str, &str, &str); 18] = [
    (
        "blk",
        "[-d DISK] size|flush|write AT|read|sha256|zero|discard AT BYTES",
        "do something to a disk: whole sectors, and standard input or output",
    ),
    ("cat", "[FILE..]", "write files, or standard input, to standard output"),
    ("echo", "PORT [-1]", "send back what TCP peers send; -1: serve one peer"),
    ("false", "", "fail"),
    ("fetch", "URL [-o FILE]", "get a file by HTTP"),
    ("help", "", "show this"),
    ("ls", "[-l] [DIR]", "list a directory"),
    ("ping", "HOST [-c N] [-i MS]", "ask whether a host is there"),
    ("raw", "[-g HEX] HEX..", "send Ethernet frames as they are; -g: virtio-net header of all"),
    ("rtt", "HOST PORT [-n COUNT] [-w WARMUP] [--json] [--raw]", "measure TCP round trips"),
    ("sha256", "[FILE..]", "show the SHA-256 of files or of standard input"),
    ("stat", "", "show what the machine has done"),
    ("tcp-receive", "PORT [-1] [--json]", "count what TCP peers send; -1: of one peer"),
    ("tcp-send", "HOST PORT [-t S] [-b BYTES] [--json]", "measure TCP throughput"),
    ("true", "", "succeed"),
    ("udp-receive", "PORT [-1] [--json]", "count datagrams; -1: of one measurement"),
    (
        "udp-send",
        "HOST PORT [-t S] [-b BYTES] [-s SIZE] [-r BITS/S] [--json]",
        "measure UDP throughput and loss",
    ),
    ("write", "FILE", "write standard input to a file"),
];

/// Runs `name` to its end.
pub async fn run(name: &str, context: Context) -> u8 {
    context.system.counters.runs.add(1);
    let status = match name {
        "blk" => blk::blk(&context).await,
        "cat" => file::cat(&context).await,
        "echo" => network::echo(&context).await,
        "false" => Ok(1),
        "fetch" => network::fetch(&context).await,
        "help" => show::help(&context).await,
        "ls" => file::ls(&context).await,
        // Not in the list: only for seeing what becomes of a guest that panics.
        "panic" => panic!("{}", context.arguments.join(" ")),
        "ping" => network::ping(&context).await,
        "raw" => raw::raw(&context).await,
        "rtt" => rtt::rtt(&context).await,
        "sha256" => file::sha256(&context).await,
        "stat" => show::stat(&context).await,
        "tcp-receive" => flow::tcp_receive(&context).await,
        "tcp-send" => flow::tcp_send(&context).await,
        "true" => Ok(0),
        "udp-receive" => flow::udp_receive(&context).await,
        "udp-send" => flow::udp_send(&context).await,
        "write" => file::write(&context).await,
        _ => {
            let names: Vec<_> = PROGRAMS.iter().map(|(name, ..)| *name).collect();
            let names = names.join(", ");
            context
                .complain(format_args!("there is no such program; there are {names}"), name)
                .await;
            return UNKNOWN;
        }
    };
    match status {
        Ok(status) => status,
        Err(Usage) => {
            let usage = PROGRAMS.iter().find(|(program, ..)| *program == name);
            let arguments = usage.map_or("", |(_, arguments, _)| *arguments);
            context.errors.print(format_args!("usage: {name} {arguments}\n")).await;
            USAGE
        }
    }
}

/// The program was used wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Usage;

impl Context {
    /// One sentence to standard error.
    async fn complain(&self, why: fmt::Arguments<'_>, what: impl fmt::Display) {
        self.errors.print(format_args!("{what}: {why}\n")).await;
    }

    /// Says where a server of this space waits.
    async fn listening(&self, net: &Net, port: u16) {
        let ends: Vec<_> = net
            .addresses()
            .map(|address| alloc::format!("{}", SocketAddr::new(address, port)))
            .collect();
        self.output.print(format_args!("listening on {}\n", ends.join(" "))).await;
    }

    /// The network, or a complaint.
    async fn net(&self) -> Option<&Rc<Net>> {
        if self.system.net.is_none() {
            self.complain(format_args!("this space has no network"), "net").await;
        }
        self.system.net.as_ref()
    }
}

/// Nanoseconds, shown in microseconds with three decimals.
struct Micros(u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// Arguments taken one by one: options by name, the rest in order.
struct Arguments<'a> {
    rest: core::slice::Iter<'a, String>,
}

impl<'a> Arguments<'a> {
    fn of(context: &'a Context) -> Arguments<'a> {
        Arguments { rest: context.arguments.iter() }
    }

    /// The next argument.
    fn next(&mut self) -> Option<&'a str> {
        self.rest.next().map(String::as_str)
    }

    /// The value of the option just taken.
    fn value<T: core::str::FromStr>(&mut self) -> Result<T, Usage> {
        self.next().and_then(|text| text.parse().ok()).ok_or(Usage)
    }
}

/// Takes a positional argument where one is due.
fn place<T: core::str::FromStr>(slot: &mut Option<T>, text: &str) -> Result<(), Usage> {
    if slot.is_some() || text.starts_with('-') {
        return Err(Usage);
    }
    *slot = Some(text.parse().map_err(|_| Usage)?);
    Ok(())
}

#[cfg(test)]
mod tests;
