//! The roles this binary takes when it starts itself.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::Tool;
use crate::failure::{Failure, Outcome, While};
use crate::lifecycle::VmSettings;
use crate::{processes, tool};

/// The switch process.
pub(super) fn switch(socket: &Path, spin_us: u32) -> Outcome<()> {
    processes::detach();
    let options = switch::Options { control: socket.to_owned(), spin_us };
    switch::run(&options).map_err(Failure::from_error)
}

/// The VM process: its connection to the switch is in place of standard input, and the
/// space's lock in place of standard output, held by being open.
pub(super) fn vm(settings: &str) -> Outcome<()> {
    processes::detach();
    let settings: VmSettings = serde_json::from_str(settings)
        .or_fail(|| "the settings cannot be read; start spaces with: portspace up".to_owned())?;
    let net = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)
        .or_fail(|| "there is no connection to the switch".to_owned())?;
    let control = UnixListener::bind(&settings.control)
        .or_fail(|| format!("cannot listen on {}", settings.control.display()))?;
    // Its words name the space and what to do: nothing is put above them.
    monitor::run(&settings.machine, UnixStream::from(net), control).map_err(Failure::from_error)?;
    // To the log, where the words of a failure would be: without any it would seem killed.
    eprintln!("portspace: space {} was stopped", settings.machine.name);
    Ok(())
}

/// The mount process: its connection to the command is in place of standard input, and the
/// mount's lock in place of standard output, held by being open.
pub(super) fn mount(settings: &str) -> Outcome<()> {
    processes::detach();
    let settings: ::mount::Settings = serde_json::from_str(settings)
        .or_fail(|| "the settings cannot be read; mount with: portspace mount".to_owned())?;
    let command = sys::seqpacket::Connection::inherited(std::io::stdin())
        .or_fail(|| "there is no connection to the command".to_owned())?;
    // Closed once it serves: nothing then leads to another process.
    let nowhere = std::fs::File::open("/dev/null");
    let _ = nowhere.map(|file| rustix::stdio::dup2_stdin(&file));
    // Its words name the space and what to do: nothing is put above them.
    ::mount::run(&settings, command).map_err(Failure::from_error)
}

/// A plain program of the demo's hosts.
pub(super) fn tool(what: Tool) -> Outcome<()> {
    match what {
        Tool::Rtt { server, count } => {
            let measured = tool::measure(server, count)?;
            say!("{}", serde_json::to_string(&measured).expect("figures are JSON"));
            Ok(())
        }
        Tool::Sink { address } => tool::sink(address),
        Tool::Source { sink, flow } => {
            let amount = tool::Amount { seconds: flow.seconds, bytes: flow.bytes };
            let measured = match flow.udp {
                true => tool::send_datagrams(sink, amount, flow.size, flow.rate)?,
                false => tool::send_stream(sink, amount)?,
            };
            say!("{}", serde_json::to_string(&measured).expect("figures are JSON"));
            Ok(())
        }
        Tool::Echo { address } => tool::echo(address),
        Tool::Http { directory, address } => tool::serve_http(&directory, address),
    }
}
