//! The switch's control socket: one JSON message per datagram, descriptors beside it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sys::seqpacket::{Connection, Incoming, MAX_MESSAGE};
use zeroize::Zeroizing;

use crate::frame::Mac;
use crate::overlay::{Overlay, SaPair};

/// What is asked of the switch.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Bind a space to an overlay; answered with [`Reply::Attached`] and a vhost-user socket.
    Attach {
        /// The space's name, for listings; not in use.
        space: String,
        /// Its overlay, keys included.
        overlay: Overlay,
    },
    /// As [`Request::Attach`], but the machine is whoever connects to the listening socket beside this
    /// message, one front end after the other; the space goes with who asked for it.
    Plug {
        /// The space's name.
        space: String,
        /// Its overlay.
        overlay: Overlay,
    },
    /// Give a space further pairs of SAs, all or none; answered with [`Reply::Done`].
    Extend {
        /// The space's name.
        space: String,
        /// The pairs.
        sas: Vec<SaPair>,
    },
    /// Let a space go; answered with [`Reply::Done`].
    Detach {
        /// The space's name.
        space: String,
    },
    /// Say what is going on; answered with [`Reply::Status`].
    Status,
}

/// What the switch answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The space is attached until the vhost-user connection beside this message ends.
    Attached {
        /// The space's Ethernet address.
        mac: Mac,
        /// The longest IP packet that fits its SAs, bytes.
        mtu: u16,
    },
    /// Done.
    Done,
    /// What is going on.
    Status(Status),
    /// Nothing was changed.
    Refused {
        /// What is wrong and what to do, in one sentence.
        reason: String,
    },
}

/// The switch at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// In the order of their places.
    pub spaces: Vec<SpaceStatus>,
    /// Packets from outside that belonged to no space, by reason.
    pub strays: BTreeMap<String, u64>,
    /// What the loop did.
    pub turns: LoopCounters,
}

/// How a loop spent its time since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopCounters {
    /// Spins that ended with work.
    pub spins_won: u64,
    /// Spins that ended with sleep.
    pub spins_lost: u64,
    /// Times the loop slept and was woken.
    pub wakeups: u64,
    /// System calls that received, those that found nothing included.
    pub receive_calls: u64,
    /// System calls that sent.
    pub send_calls: u64,
    /// Packets the kernel did not take.
    pub send_lost: u64,
    /// Notifications sent to guests.
    pub notifications: u64,
    /// NAT keepalives sent.
    #[serde(default)]
    pub keepalives: u64,
}

/// One space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceStatus {
    /// Its name.
    pub space: String,
    /// Its own address, and the UDP port of its ESP.
    pub local: SocketAddr,
    /// Where its ESP goes.
    pub peer: SocketAddr,
    /// Its Ethernet address.
    pub mac: Mac,
    /// The longest IP packet that fits, bytes.
    pub mtu: u16,
    /// Whether the guest's driver runs both of its queues.
    pub running: bool,
    /// When the first packet from the peer was given to the guest; nanoseconds of CLOCK_MONOTONIC.
    pub first_answer_ns: Option<u64>,
    /// Packets dropped outside of its SAs, by reason.
    pub drops: BTreeMap<String, u64>,
    /// Its SAs.
    pub pairs: Vec<PairStatus>,
}

/// Two SAs of a space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairStatus {
    /// From the peer.
    pub inbound: InboundStatus,
    /// To the peer.
    pub outbound: OutboundStatus,
}

/// One inbound SA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundStatus {
    /// Its number.
    pub spi: u32,
    /// How the peer encrypts.
    pub cipher: String,
    /// Packets opened.
    pub packets: u64,
    /// Payload bytes opened.
    pub bytes: u64,
    /// The highest sequence number accepted: the top of the replay window.
    pub sequence: u64,
    /// The window's size, packets.
    pub window: u16,
    /// Packets discarded, by reason.
    pub drops: BTreeMap<String, u64>,
}

/// One outbound SA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboundStatus {
    /// Its number.
    pub spi: u32,
    /// How it encrypts.
    pub cipher: String,
    /// Packets sealed.
    pub packets: u64,
    /// Payload bytes sealed.
    pub bytes: u64,
    /// The last sequence number used.
    pub sequence: u64,
}

impl PairStatus {
    pub(crate) fn new(inbound: &esp::InboundSa, outbound: &esp::OutboundSa) -> PairStatus {
        let drops = inbound.discards().iter().filter(|(_, count)| *count > 0);
        PairStatus {
            inbound: InboundStatus {
                spi: inbound.spi().number(),
                cipher: inbound.suite().name().into(),
                packets: inbound.packets(),
                bytes: inbound.bytes(),
                sequence: inbound.top(),
                window: inbound.window().packets(),
                drops: drops.map(|(reason, count)| (reason.name().into(), count)).collect(),
            },
            outbound: OutboundStatus {
                spi: outbound.spi().number(),
                cipher: outbound.suite().name().into(),
                packets: outbound.packets(),
                bytes: outbound.bytes(),
                sequence: outbound.sequence(),
            },
        }
    }
}

/// Why the switch could not be asked, or did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody answers at the socket.
    #[error("no switch answers at {path}: {source}; `portspace up` starts one")]
    Connect {
        /// The control socket.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The connection ended or broke.
    #[error("the switch did not answer: {0}; its log (switch.log) may say why")]
    Broken(#[source] io::Error),
    /// The answer is none that was asked for: another version of the program runs.
    #[error("the switch speaks otherwise ({0}): is an older portspace still running?")]
    Foreign(String),
    /// The switch refused.
    #[error("{0}")]
    Refused(String),
}

/// A space that was attached.
#[derive(Debug)]
pub struct Attached {
    /// Its Ethernet address.
    pub mac: Mac,
    /// The longest IP packet that fits, bytes.
    pub mtu: u16,
    /// The vhost-user connection, a stream; the space stays attached until it is closed.
    pub vhost_user: OwnedFd,
}

/// Somebody who asks the switch, one request at a time.
#[derive(Debug)]
pub struct Client(Connection);

impl Client {
    /// Connects to the switch at this control socket.
    ///
    /// # Errors
    /// [`Failure::Connect`].
    pub fn connect(path: &Path) -> Result<Client, Failure> {
        Connection::connect(path)
            .map(Client)
            .map_err(|source| Failure::Connect { path: path.into(), source })
    }

    /// Binds a space to an overlay.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn attach(&self, space: &str, overlay: Overlay) -> Result<Attached, Failure> {
        let request = Request::Attach { space: space.into(), overlay };
        match self.ask(&request, &[])? {
            (Reply::Attached { mac, mtu }, Some(vhost_user)) => {
                Ok(Attached { mac, mtu, vhost_user })
            }
            (other, _) => Err(unexpected(other)),
        }
    }

    /// Gives a space further pairs of SAs, all or none.
    ///
    /// # Errors
    /// [`Failure`]; refused with what is wrong with one of them.
    pub fn extend(&self, space: &str, sas: Vec<SaPair>) -> Result<(), Failure> {
        match self.ask(&Request::Extend { space: space.into(), sas }, &[])? {
            (Reply::Done, _) => Ok(()),
            (other, _) => Err(unexpected(other)),
        }
    }

    /// Binds a space to an overlay whose machine is whoever connects to `socket`, one front end after
    /// the other; the space goes with this client.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn plug(
        &self,
        space: &str,
        overlay: Overlay,
        socket: BorrowedFd<'_>,
    ) -> Result<(Mac, u16), Failure> {
        match self.ask(&Request::Plug { space: space.into(), overlay }, &[socket])? {
            (Reply::Attached { mac, mtu }, _) => Ok((mac, mtu)),
            (other, _) => Err(unexpected(other)),
        }
    }

    /// Lets a space go.
    ///
    /// # Errors
    /// [`Failure`]; refused if there is none of this name.
    pub fn detach(&self, space: &str) -> Result<(), Failure> {
        match self.ask(&Request::Detach { space: space.into() }, &[])? {
            (Reply::Done, _) => Ok(()),
            (other, _) => Err(unexpected(other)),
        }
    }

    /// What is going on.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn status(&self) -> Result<Status, Failure> {
        match self.ask(&Request::Status, &[])? {
            (Reply::Status(status), _) => Ok(status),
            (other, _) => Err(unexpected(other)),
        }
    }

    fn ask(
        &self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Option<OwnedFd>), Failure> {
        send(&self.0, request, fds).map_err(Failure::Broken)?;
        let mut buffer = vec![0; MAX_MESSAGE];
        let broken = |kind: io::ErrorKind| Failure::Broken(kind.into());
        let (length, fds) = loop {
            match self.0.receive(&mut buffer).map_err(Failure::Broken)? {
                Incoming::Message(length, fds) => break (length, fds),
                Incoming::Nothing => {}
                Incoming::Closed => return Err(broken(io::ErrorKind::UnexpectedEof)),
                Incoming::TooLong => return Err(broken(io::ErrorKind::InvalidData)),
            }
        };
        let reply = serde_json::from_slice(&buffer[..length])
            .map_err(|error| Failure::Foreign(error.to_string()))?;
        Ok((reply, fds.into_iter().next()))
    }
}

fn unexpected(reply: Reply) -> Failure {
    match reply {
        Reply::Refused { reason } => Failure::Refused(reason),
        _ => Failure::Foreign("it answered something else than was asked".into()),
    }
}

/// Sends one message; its text, which may hold keys, is zeroed.
pub(crate) fn send(
    connection: &Connection,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_MESSAGE));
    serde_json::to_writer(&mut *text, message)?;
    if text.len() > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    connection.send(&text, fds)
}
