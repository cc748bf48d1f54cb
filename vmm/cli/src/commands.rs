//! The command line, and which module does what.

mod bare;
mod bench;
mod capture;
mod commit;
mod diff;
mod inspect;
mod internal;
mod listing;
mod mount;
mod plug;
mod run;
mod space;
mod switch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::SpaceName;
use crate::failure::Outcome;
use crate::{demo, doctor, lab};

/// Personal networks: small virtual machines with this host's own address, this
/// host's files seen through copy-on-write, and exactly one IPsec overlay each.
#[derive(Parser)]
#[command(name = "portspace", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create and start a space
    Up {
        /// Its configuration (TOML)
        file: PathBuf,
        #[command(flatten)]
        keys: SessionKeys,
    },
    /// Run a program inside a space: stdio, exit status, Ctrl-C
    Run {
        /// The space
        name: SpaceName,
        /// Leave files outside that are open by number (3 and above)
        #[arg(long)]
        no_files: bool,
        /// The program inside and its arguments
        #[arg(last = true, required = true, num_args = 1..)]
        program: Vec<String>,
    },
    /// List the spaces
    Ls(Form),
    /// Show one space
    Inspect {
        /// The space
        name: SpaceName,
        #[command(flatten)]
        form: Form,
    },
    /// Stop a space or end its mount; its files stay
    Stop {
        /// The space
        name: SpaceName,
    },
    /// Remove a stopped space and its own layer of files
    Rm {
        /// The space
        name: SpaceName,
    },
    /// Show a stopped space's files on this host, to be read and written
    Mount(mount::Options),
    /// Show what a space has otherwise than its parent, like git status
    Diff(diff::Options),
    /// Apply what a stopped space changed to its parent: all of it, or nothing
    Commit(commit::CommitOptions),
    /// Forget what a stopped space changed: the parent's files are seen again
    Discard(commit::DiscardOptions),
    /// The same overlay without a VM, through a TUN device (needs CAP_NET_ADMIN)
    Bare {
        /// The configuration (TOML)
        file: PathBuf,
        #[command(flatten)]
        keys: SessionKeys,
    },
    /// One more space for a machine that is not ours, such as QEMU's, until ended
    Plug(plug::Options),
    /// Look at the switch
    Switch {
        #[command(subcommand)]
        what: SwitchCommand,
    },
    /// Look at security associations
    Sa {
        #[command(subcommand)]
        what: Listing,
    },
    /// Look at security policies
    Policy {
        #[command(subcommand)]
        what: Listing,
    },
    /// Write a space's packets to a file for Wireshark, until ended
    Capture(capture::Options),
    /// Three hosts, two personal networks: the main job, shown and measured
    Demo(Form),
    /// Check and measure what will work on this machine
    Doctor(Form),
    /// Measure
    Bench {
        #[command(subcommand)]
        what: bench::Bench,
    },
    /// The switch process (started by up)
    #[command(hide = true)]
    SwitchProcess {
        /// Its control socket
        socket: PathBuf,
        /// How long it looks for packets before it sleeps, microseconds
        #[arg(long, default_value_t = ::switch::DEFAULT_SPIN_US)]
        spin_us: u32,
    },
    /// The VM process (started by up)
    #[command(hide = true)]
    Vm {
        /// Its settings, JSON
        settings: String,
    },
    /// The mount process (started by mount)
    #[command(hide = true)]
    MountProcess {
        /// Its settings, JSON
        settings: String,
    },
    /// Plain programs for the demo's hosts
    #[command(hide = true)]
    Tool {
        #[command(subcommand)]
        what: Tool,
    },
    /// Enters the demo's namespaces
    #[command(hide = true, name = lab::THRESHOLD)]
    LabThreshold {
        /// What runs inside
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The demo, inside its namespaces
    #[command(hide = true)]
    DemoInside(Form),
    /// The doctor's trials, inside namespaces
    #[command(hide = true)]
    DoctorInside,
    /// A bench, inside its namespaces
    #[command(hide = true, name = bench::INSIDE)]
    BenchInside {
        #[command(subcommand)]
        what: bench::Bench,
    },
}

/// What key management hands over, until it does so itself.
#[derive(Args)]
struct SessionKeys {
    /// Pairs of SAs (JSON) in the place of those of the file
    #[arg(long, hide = true, value_name = "PATH")]
    session_keys: Option<PathBuf>,
}

/// For people, or for programs.
#[derive(Args, Clone, Copy)]
struct Form {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum SwitchCommand {
    /// Its spaces with their rates, its loop, and packets that belonged to nobody
    Status(Form),
    /// Every counter as OpenMetrics text
    Metrics,
}

#[derive(Subcommand)]
enum Listing {
    /// List them
    Ls {
        /// Of this space; all spaces if none is named
        name: Option<SpaceName>,
        #[command(flatten)]
        form: Form,
    },
}

#[derive(Args, Clone, Copy)]
struct FlowOptions {
    /// For at most so many seconds
    #[arg(short = 't', long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// At most so many bytes
    #[arg(short, long, default_value_t = u64::MAX)]
    bytes: u64,
    /// Datagrams instead of a stream
    #[arg(long)]
    udp: bool,
    /// Bytes of each datagram
    #[arg(short, long, default_value_t = 1200)]
    size: usize,
    /// Bits of datagrams a second; 0: as fast as they go
    #[arg(short, long, default_value_t = 0)]
    rate: u64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "not a number of seconds from 0 to 3600".to_owned())
}

#[derive(Subcommand)]
enum Tool {
    /// Measure TCP round trips of 1 byte
    Rtt {
        /// An echo server
        server: SocketAddr,
        /// How many
        #[arg(long, default_value_t = 1000)]
        count: u32,
    },
    /// A TCP echo server
    Echo {
        /// Where to listen
        address: SocketAddr,
    },
    /// Take what tcp-send, udp-send and source send, and count it
    Sink {
        /// Where to listen, TCP and UDP
        address: SocketAddr,
    },
    /// Measure throughput to a sink, tcp-receive or udp-receive
    Source {
        /// Where it listens
        sink: SocketAddr,
        #[command(flatten)]
        flow: FlowOptions,
    },
    /// A minimal HTTP file server
    Http {
        /// What to serve
        directory: PathBuf,
        /// Where to listen
        address: SocketAddr,
    },
}

impl Cli {
    /// Does what the command line says.
    pub(crate) fn run(self) -> Outcome<ExitCode> {
        let done = |outcome: Outcome<()>| outcome.map(|()| ExitCode::SUCCESS);
        match self.command {
            Command::Up { file, keys } => done(space::up(&file, keys.session_keys.as_deref())),
            Command::Run { name, no_files, program } => run::run(&name, program, !no_files),
            Command::Ls(form) => done(listing::ls(form.json)),
            Command::Inspect { name, form } => done(inspect::inspect(&name, form.json)),
            Command::Stop { name } => done(space::stop(&name)),
            Command::Rm { name } => done(space::remove(&name)),
            Command::Mount(options) => done(mount::mount(&options)),
            Command::Diff(options) => diff::diff(&options),
            Command::Commit(options) => done(commit::commit(&options)),
            Command::Discard(options) => done(commit::discard(&options)),
            Command::Bare { file, keys } => done(bare::bare(&file, keys.session_keys.as_deref())),
            Command::Plug(options) => done(plug::plug(&options)),
            Command::Switch { what } => done(match what {
                SwitchCommand::Status(form) => switch::status(form.json),
                SwitchCommand::Metrics => switch::metrics(),
            }),
            Command::Sa { what: Listing::Ls { name, form } } => {
                done(switch::sas(name.as_ref(), form.json))
            }
            Command::Policy { what: Listing::Ls { name, form } } => {
                done(switch::policies(name.as_ref(), form.json))
            }
            Command::Capture(options) => done(capture::capture(&options)),
            Command::Demo(form) => demo::start(form.json),
            Command::Doctor(form) => doctor::doctor(form.json),
            Command::Bench { what } => bench::enter(what),
            Command::SwitchProcess { socket, spin_us } => done(internal::switch(&socket, spin_us)),
            Command::Vm { settings } => done(internal::vm(&settings)),
            Command::MountProcess { settings } => done(internal::mount(&settings)),
            Command::Tool { what } => done(internal::tool(what)),
            Command::LabThreshold { arguments } => lab::threshold(&arguments),
            Command::DemoInside(form) => demo::inside(form.json),
            Command::DoctorInside => done(doctor::inside()),
            Command::BenchInside { what } => bench::inside(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn what_stands_after_two_dashes_is_the_programs() {
        let cli = Cli::try_parse_from(["portspace", "run", "red", "--", "rtt", "--json"]).unwrap();
        let Command::Run { name, program, .. } = cli.command else { panic!("not run") };
        assert_eq!((name.as_str(), program.join(" ").as_str()), ("red", "rtt --json"));
        assert!(Cli::try_parse_from(["portspace", "run", "Red", "--", "ls"]).is_err());
        assert!(Cli::try_parse_from(["portspace", "run", "red"]).is_err());
    }
}
