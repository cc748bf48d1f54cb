//! The switch's control socket: one JSON message per datagram, descriptors beside it.
//!
//! Lists are asked for in parts, so that no answer is long or keeps packets waiting.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sys::seqpacket::{Connection, Incoming, MAX_MESSAGE};
use zeroize::Zeroizing;

use crate::capture::Layer;
use crate::frame::Mac;
use crate::metrics::Cursor;
use crate::overlay::{Overlay, SaPair};
pub use crate::status::{LoopCounters, Page, PairStatus, PolicyStatus, SpaceStatus, Status};

/// What is asked of the switch.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Bind a space to an overlay; answered with [`Reply::Attached`] and a vhost-user socket,
    /// which the space ends with.
    Attach {
        /// The space's name, for listings; not in use.
        space: String,
        /// Its overlay, keys included.
        overlay: Overlay,
    },
    /// The same for foreign machines, which connect to the listening socket beside this message,
    /// one after the other; answered with [`Reply::Attached`]. The space ends with this client.
    Plug {
        /// The space's name, for listings; not in use.
        space: String,
        /// Its overlay, keys included.
        overlay: Overlay,
    },
    /// Give a space further pairs of SAs, all or none; answered with [`Reply::Done`].
    Extend {
        /// The space's name.
        space: String,
        /// Keys included.
        sas: Vec<SaPair>,
    },
    /// Let a space go; answered with [`Reply::Done`].
    Detach {
        /// The space's name.
        space: String,
    },
    /// Say how the switch is; answered with [`Reply::Status`], without spaces.
    Status,
    /// List spaces; answered with [`Reply::Spaces`], without their SAs and policies.
    Spaces {
        /// 0, or where the part before ended.
        from: u64,
    },
    /// Show one space; answered with [`Reply::Spaces`], likewise.
    Space {
        /// Its name.
        space: String,
    },
    /// List a space's SAs; answered with [`Reply::Pairs`].
    Pairs {
        /// The space's name.
        space: String,
        /// 0, or where the part before ended.
        from: u64,
    },
    /// List a space's policies; answered with [`Reply::Policies`].
    Policies {
        /// The space's name.
        space: String,
        /// 0, or where the part before ended.
        from: u64,
    },
    /// Give all counters as OpenMetrics text; answered with [`Reply::Metrics`].
    Metrics {
        /// The default, or where the part before ended.
        from: Cursor,
    },
    /// Copy a space's packets; answered with [`Reply::Done`] and a pipe of records
    /// ([`crate::capture::Reader`]).
    Capture {
        /// The space's name.
        space: String,
        /// Which packets.
        layer: Layer,
        /// Most bytes of each.
        snaplen: u32,
    },
}

/// What the switch answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The space is attached.
    Attached(Extent),
    /// Done.
    Done,
    /// How the switch is.
    Status(Status),
    /// Some spaces.
    Spaces(Page<SpaceStatus>),
    /// Some SAs.
    Pairs(Page<PairStatus>),
    /// Some policies.
    Policies(Page<PolicyStatus>),
    /// Some counters.
    Metrics {
        /// Whole lines.
        text: String,
        /// Where the next part begins, if there is one.
        next: Option<Cursor>,
    },
    /// Nothing was changed.
    Refused {
        /// What is wrong and what to do, in one sentence.
        reason: String,
    },
}

/// What a space was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Its Ethernet address.
    pub mac: Mac,
    /// The longest IP packet that fits its SAs, bytes.
    pub mtu: u16,
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
        match self.ask(&request)? {
            (Reply::Attached(Extent { mac, mtu }), Some(vhost_user)) => {
                Ok(Attached { mac, mtu, vhost_user })
            }
            (other, _) => Err(unexpected(other)),
        }
    }

    /// Binds a space to an overlay whose machines connect to `listener`, a listening stream
    /// socket. It lasts as long as this client.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn plug(
        &self,
        space: &str,
        overlay: Overlay,
        listener: BorrowedFd<'_>,
    ) -> Result<Extent, Failure> {
        let request = Request::Plug { space: space.into(), overlay };
        match self.ask_with(&request, &[listener])? {
            (Reply::Attached(extent), _) => Ok(extent),
            (other, _) => Err(unexpected(other)),
        }
    }

    /// Gives a space further pairs of SAs, a part at a time.
    ///
    /// # Errors
    /// [`Failure`]; the parts before are kept.
    pub fn extend(&self, space: &str, sas: Vec<SaPair>) -> Result<(), Failure> {
        let mut sas = sas.into_iter().peekable();
        while sas.peek().is_some() {
            let sas = sas.by_ref().take(PAIRS_AT_ONCE).collect();
            match self.ask(&Request::Extend { space: space.into(), sas })? {
                (Reply::Done, _) => {}
                (other, _) => return Err(unexpected(other)),
            }
        }
        Ok(())
    }

    /// Lets a space go.
    ///
    /// # Errors
    /// [`Failure`]; refused if there is none of this name.
    pub fn detach(&self, space: &str) -> Result<(), Failure> {
        match self.ask(&Request::Detach { space: space.into() })? {
            (Reply::Done, _) => Ok(()),
            (other, _) => Err(unexpected(other)),
        }
    }

    /// Everything that is going on. Of very many SAs it takes a while: see [`Client::overview`].
    ///
    /// # Errors
    /// [`Failure`].
    pub fn status(&self) -> Result<Status, Failure> {
        let mut status = self.overview()?;
        let mut whole = Vec::with_capacity(status.spaces.len());
        for space in status.spaces {
            // One that has gone meanwhile is left out.
            whole.extend(self.fill(space)?);
        }
        status.spaces = whole;
        Ok(status)
    }

    /// The switch itself, without spaces.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn summary(&self) -> Result<Status, Failure> {
        match self.ask(&Request::Status)? {
            (Reply::Status(status), _) => Ok(status),
            (other, _) => Err(unexpected(other)),
        }
    }

    /// The same with spaces, without their SAs and policies.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn overview(&self) -> Result<Status, Failure> {
        let mut status = self.summary()?;
        self.pages(|from| Request::Spaces { from }, spaces, |space| status.spaces.push(space))?;
        Ok(status)
    }

    /// One space with its SAs and policies; `None` if there is none of this name.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn space(&self, name: &str) -> Result<Option<SpaceStatus>, Failure> {
        let mut found = None;
        let request = |_| Request::Space { space: name.into() };
        match self.pages(request, spaces, |space| found = Some(space)) {
            Err(Failure::Refused(_)) => return Ok(None),
            result => result?,
        }
        found.map_or(Ok(None), |space| self.fill(space))
    }

    fn fill(&self, mut space: SpaceStatus) -> Result<Option<SpaceStatus>, Failure> {
        let name = space.space.clone();
        let filled = self
            .each_pair(&name, |pair| space.pairs.push(pair))
            .and_then(|()| self.each_policy(&name, |policy| space.policies.push(policy)));
        match filled {
            Ok(()) => Ok(Some(space)),
            Err(Failure::Refused(_)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Shows `each` pair of a space's SAs.
    ///
    /// # Errors
    /// [`Failure`]; refused if there is no space of this name, or no more.
    pub fn each_pair(&self, space: &str, each: impl FnMut(PairStatus)) -> Result<(), Failure> {
        let request = |from| Request::Pairs { space: space.into(), from };
        let pairs = |reply| match reply {
            Reply::Pairs(page) => Ok(page),
            other => Err(unexpected(other)),
        };
        self.pages(request, pairs, each)
    }

    /// Shows `each` policy of a space, in the order they are looked at.
    ///
    /// # Errors
    /// [`Failure`]; refused if there is no space of this name, or no more.
    pub fn each_policy(&self, space: &str, each: impl FnMut(PolicyStatus)) -> Result<(), Failure> {
        let request = |from| Request::Policies { space: space.into(), from };
        let policies = |reply| match reply {
            Reply::Policies(page) => Ok(page),
            other => Err(unexpected(other)),
        };
        self.pages(request, policies, each)
    }

    fn pages<T>(
        &self,
        request: impl Fn(u64) -> Request,
        take: impl Fn(Reply) -> Result<Page<T>, Failure>,
        each: impl FnMut(T),
    ) -> Result<(), Failure> {
        let (mut each, mut from) = (each, 0);
        loop {
            let page = take(self.ask(&request(from))?.0)?;
            page.items.into_iter().for_each(&mut each);
            match page.next {
                Some(next) if next > from => from = next,
                Some(_) => return Err(Failure::Foreign("its list does not go on".into())),
                None => return Ok(()),
            }
        }
    }

    /// Every counter as OpenMetrics text, a part at a time.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn metrics(&self, mut each: impl FnMut(&str)) -> Result<(), Failure> {
        let mut from = Cursor::default();
        loop {
            match self.ask(&Request::Metrics { from })? {
                (Reply::Metrics { text, next }, _) => {
                    each(&text);
                    match next {
                        Some(next) if next > from => from = next,
                        Some(_) => return Err(Failure::Foreign("its text does not go on".into())),
                        None => return Ok(()),
                    }
                }
                (other, _) => return Err(unexpected(other)),
            }
        }
    }

    /// Copies a space's packets from now on, at most `snaplen` bytes of each, until the pipe
    /// given back is closed; it ends with the space.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn capture(&self, space: &str, layer: Layer, snaplen: u32) -> Result<OwnedFd, Failure> {
        match self.ask(&Request::Capture { space: space.into(), layer, snaplen })? {
            (Reply::Done, Some(pipe)) => Ok(pipe),
            (other, _) => Err(unexpected(other)),
        }
    }

    fn ask(&self, request: &Request) -> Result<(Reply, Option<OwnedFd>), Failure> {
        self.ask_with(request, &[])
    }

    fn ask_with(
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

/// Pairs of SAs in one message: each takes less than 1 KiB.
const PAIRS_AT_ONCE: usize = MAX_MESSAGE / 1024;

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn spaces(reply: Reply) -> Result<Page<SpaceStatus>, Failure> {
    match reply {
        Reply::Spaces(page) => Ok(page),
        other => Err(unexpected(other)),
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
