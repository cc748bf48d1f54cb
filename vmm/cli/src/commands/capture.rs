//! `portspace capture`: a space's packets into a file that Wireshark opens.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use switch::capture::{Layer, MAX_SNAPLEN, Record};
use sys::clock::monotonic_ns;
use sys::signal::Termination;

use crate::config::{SpaceName, parse_size};
use crate::failure::{Failure, Outcome, While};
use crate::link;
use crate::paths::Paths;
use crate::pcapng::Writer;
use crate::table::{count, short};

/// What is captured, and how much.
#[derive(Args)]
pub(super) struct Options {
    /// The space
    name: SpaceName,
    /// What the space sends and gets, in clear
    #[arg(long, conflicts_with = "outer")]
    inner: bool,
    /// The ESP packets between this host and the peer (the default)
    #[arg(long)]
    outer: bool,
    /// The file, pcapng; - for standard output
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// End after so many packets
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    packets: u64,
    /// End after so many bytes of file
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = size)]
    bytes: u64,
    /// End after so many seconds
    #[arg(long, value_name = "N", default_value_t = 3600)]
    seconds: u64,
    /// Keep so many bytes of each packet
    #[arg(long, value_name = "BYTES", default_value_t = MAX_SNAPLEN,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SNAPLEN)))]
    snaplen: u32,
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "write a whole number and K, M or G, like 10M".to_owned())
}

/// Bytes that are read from the switch at once.
const CHUNK: usize = 1 << 20;

/// Captures until a bound is reached, the space ends or the user ends it.
pub(super) fn capture(options: &Options) -> Outcome<()> {
    let Options { name, snaplen, .. } = options;
    let (layer, what) = match options.inner {
        true => (Layer::Inner, "packets inside"),
        false => (Layer::Outer, "ESP packets outside"),
    };
    let (to, place) = open(options.write.as_deref())?;
    let failed = || format!("cannot capture {name}");
    let termination = Termination::new().or_fail(failed)?;
    let pipe =
        link::connect(&Paths::open()?)?.capture(name.as_str(), layer, *snaplen).or_fail(failed)?;
    let unwritable = || format!("cannot write {place}");
    let description = format!("{what} of space {name}");
    let writer = Writer::new(to, name.as_str(), &description, *snaplen, offset_ns());
    let mut session = Session { writer: writer.or_fail(unwritable)?, received: Vec::new() };
    eprintln!("capturing the {what} of {name} into {place}; Ctrl-C ends it");
    let end = session.follow(&pipe, &termination, options);
    let (packets, lost) = session.writer.counts();
    let bytes = session.writer.bytes();
    let why = match end {
        // Whoever reads our output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        end => end.or_fail(unwritable)?,
    };
    session.writer.finish(monotonic_ns(), why.words()).or_fail(unwritable)?;
    eprintln!(
        "{}: {} ({} bytes) into {place}, {lost} lost",
        why.words(),
        count(packets, "packet"),
        short(bytes)
    );
    Ok(())
}

/// Where the packets go, and its name.
fn open(path: Option<&Path>) -> Outcome<(Box<dyn Write>, String)> {
    match path {
        Some(path) if path.as_os_str() != "-" => {
            // Nobody else is to read a user's packets.
            let options =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
            let file = options.or_fail(|| format!("cannot write {}", path.display()))?;
            Ok((Box::new(BufWriter::new(file)), path.display().to_string()))
        }
        None if io::stdout().is_terminal() => Err(Failure::new(
            "a terminal cannot show packets; name a file with -w FILE, or pipe into: tshark -r -",
        )),
        _ => Ok((Box::new(BufWriter::new(io::stdout())), "standard output".to_owned())),
    }
}

/// From CLOCK_MONOTONIC to the time of day, nanoseconds.
fn offset_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now_ns = since.map_or(0, |since| since.as_nanos() as u64);
    now_ns.saturating_sub(monotonic_ns())
}

/// Why a capture is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    User,
    Space,
    Packets,
    Bytes,
    Seconds,
}

impl End {
    fn words(self) -> &'static str {
        match self {
            End::User => "ended by the user",
            End::Space => "the space or the switch ended",
            End::Packets => "as many packets as were asked for (--packets)",
            End::Bytes => "as many bytes as were asked for (--bytes)",
            End::Seconds => "as many seconds as were asked for (--seconds)",
        }
    }
}

struct Session {
    writer: Writer<Box<dyn Write>>,
    received: Vec<u8>,
}

impl Session {
    fn follow(
        &mut self,
        pipe: &OwnedFd,
        termination: &Termination,
        options: &Options,
    ) -> io::Result<End> {
        let end_ns = monotonic_ns().saturating_add(options.seconds.saturating_mul(1_000_000_000));
        loop {
            let now_ns = monotonic_ns();
            if now_ns >= end_ns {
                return Ok(End::Seconds);
            }
            let timeout = Timespec::try_from(std::time::Duration::from_nanos(end_ns - now_ns)).ok();
            let (pipe_fd, signal_fd) = (pipe.as_fd(), termination.as_fd());
            let mut fds =
                [PollFd::new(&pipe_fd, PollFlags::IN), PollFd::new(&signal_fd, PollFlags::IN)];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [readable, signalled] = fds.map(|fd| !fd.revents().is_empty());
            if readable {
                if !self.read(pipe)? {
                    return Ok(End::Space);
                }
                if let Some(end) = self.write(options)? {
                    return Ok(end);
                }
                self.writer.flush()?;
            }
            // What came before the user's wish is taken along.
            if signalled && !readable {
                return Ok(End::User);
            }
        }
    }

    /// Takes what is there; false at the end.
    fn read(&mut self, pipe: &OwnedFd) -> io::Result<bool> {
        let before = self.received.len();
        self.received.resize(before + CHUNK, 0);
        let result = rustix::io::read(pipe, &mut self.received[before..]);
        self.received.truncate(before + result.unwrap_or(0));
        match result {
            Ok(0) => Ok(false),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the packets that are whole; gives the bound that was reached.
    fn write(&mut self, options: &Options) -> io::Result<Option<End>> {
        let mut rest = &self.received[..];
        let end = loop {
            let malformed = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            let Some(record) = Record::take(&mut rest).map_err(malformed)? else { break None };
            self.writer.packet(&record)?;
            if self.writer.counts().0 >= options.packets {
                break Some(End::Packets);
            }
            if self.writer.bytes() >= options.bytes {
                break Some(End::Bytes);
            }
        };
        let taken = self.received.len() - rest.len();
        self.received.drain(..taken);
        Ok(end)
    }
}
