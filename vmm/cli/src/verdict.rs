//! Whether an overlay is up and, if not, why: read from the switch's counters.
//!
//! Counters say what happened, never what did not: each verdict says how it was
//! reached, so that who knows more can judge it.

use serde::Serialize;
use switch::overlay::Mode;
use switch::status::{Age, Counts, Machine, SpaceStatus};

use crate::table::count;

/// Silence behind the last packet that is nothing to wonder about, nanoseconds.
const FRESH_NS: u64 = 60 * 1_000_000_000;

/// How an overlay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The peer answers.
    Up,
    /// It did, but not of late.
    Quiet,
    /// No front end is connected.
    NoMachine,
    /// The guest's driver does not run.
    GuestNotRunning,
    /// The SAs' hard lifetimes are over.
    Expired,
    /// The sequence numbers are used up.
    Exhausted,
    /// The guest has sent nothing.
    NothingSent,
    /// No policy lets out what the guest sends.
    PolicyOut,
    /// What the guest sends does not fit.
    TooBig,
    /// The guest sends from an address that is not the space's.
    ForeignSource,
    /// The kernel takes no packets.
    Unsendable,
    /// Nothing ever came back.
    PeerSilent,
    /// What came is not authentic.
    Forged,
    /// What comes has old sequence numbers.
    Replayed,
    /// What came is authentic but not welcome.
    PolicyIn,
    /// What came is authentic but no payload for this mode.
    OtherMode,
    /// What came is for another socket.
    ForeignSocket,
    /// What came names SPIs that nobody here has.
    UnknownSpi,
    /// What came is no ESP.
    NotEsp,
    /// The guest takes no packets.
    GuestFull,
}

/// What is known.
pub(crate) struct Facts<'a> {
    /// The space with its SAs.
    pub(crate) space: &'a SpaceStatus,
    /// Packets from outside that belonged to no space.
    pub(crate) strays: &'a Counts,
    /// Packets the kernel did not take, of any space.
    pub(crate) unsent: u64,
    /// The moment, nanoseconds of CLOCK_MONOTONIC.
    pub(crate) now_ns: u64,
}

impl Facts<'_> {
    /// Packets with one of the space's SPIs that were discarded for this reason.
    fn discarded(&self, reason: &str) -> u64 {
        let drops = self.space.pairs.iter().map(|pair| &pair.inbound.drops);
        drops.filter_map(|drops| drops.get(reason)).sum()
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.space.drops.get(reason).copied().unwrap_or(0)
    }

    fn stray(&self, reason: &str) -> u64 {
        self.strays.get(reason).copied().unwrap_or(0)
    }

    fn is_local(&self) -> bool {
        self.space.encapsulation == "local"
    }

    /// Nanoseconds since the guest was last given a packet from the peer.
    fn silence_ns(&self) -> Option<u64> {
        self.space.last_answer_ns.map(|last_ns| self.now_ns.saturating_sub(last_ns))
    }

    fn all_expired(&self) -> bool {
        let pairs = &self.space.pairs;
        let over = |age: Age| age == Age::HardExpired;
        !pairs.is_empty()
            && pairs.iter().all(|pair| over(pair.inbound.state) || over(pair.outbound.state))
    }
}

impl Verdict {
    /// The first thing that keeps the overlay from working, or that it works.
    pub(crate) fn of(facts: &Facts<'_>) -> Verdict {
        let space = facts.space;
        if space.machine == Machine::Awaited {
            return Verdict::NoMachine;
        }
        if !space.running {
            return Verdict::GuestNotRunning;
        }
        if facts.all_expired() {
            return Verdict::Expired;
        }
        if facts.dropped("exhausted") > 0 {
            return Verdict::Exhausted;
        }
        match facts.silence_ns() {
            Some(silence_ns) if silence_ns <= FRESH_NS => Verdict::Up,
            // A peer that began anew has low sequence numbers; all that it sends is too old.
            Some(_) if facts.discarded("replayed") > 0 => Verdict::Replayed,
            Some(_) => Verdict::Quiet,
            None if space.sent.packets == 0 => Verdict::unsent(facts),
            None => Verdict::unanswered(facts),
        }
    }

    /// Nothing left.
    fn unsent(facts: &Facts<'_>) -> Verdict {
        if facts.dropped("policy") > 0 {
            Verdict::PolicyOut
        } else if facts.dropped("foreign_source") > 0 {
            Verdict::ForeignSource
        } else if facts.dropped("too_big") > 0 {
            Verdict::TooBig
        } else {
            // The peer may have spoken first.
            match Verdict::unanswered(facts) {
                Verdict::PeerSilent => Verdict::NothingSent,
                other => other,
            }
        }
    }

    /// Nothing welcome came.
    fn unanswered(facts: &Facts<'_>) -> Verdict {
        let any = |count: u64, verdict: Verdict| (count > 0).then_some(verdict);
        let wrong_length = facts.discarded("truncated") + facts.discarded("bad_padding");
        let unwelcome = facts.discarded("policy") + facts.discarded("foreign_selector");
        let is_unsent = facts.unsent > 0 && facts.unsent >= facts.space.sent.packets;
        None.or(any(facts.dropped("guest_full"), Verdict::GuestFull))
            .or(any(facts.discarded("forged") + wrong_length, Verdict::Forged))
            .or(any(facts.discarded("replayed"), Verdict::Replayed))
            .or(any(facts.discarded("expired"), Verdict::Expired))
            .or(any(unwelcome, Verdict::PolicyIn))
            .or(any(facts.discarded("malformed"), Verdict::OtherMode))
            .or(any(facts.dropped("foreign_peer"), Verdict::ForeignSocket))
            .or(is_unsent.then_some(Verdict::Unsendable))
            .or(any(facts.stray("unknown_spi"), Verdict::UnknownSpi))
            .or(any(facts.stray("not_esp"), Verdict::NotEsp))
            .unwrap_or(Verdict::PeerSilent)
    }

    /// Whether packets pass, as far as one can know.
    pub(crate) fn is_up(self) -> bool {
        matches!(self, Verdict::Up)
    }

    /// What is so, and what to do about it.
    pub(crate) fn sentence(self, facts: &Facts<'_>) -> String {
        let space = facts.space;
        let (name, peer) = (&space.space, space.peer);
        let sent = space.sent.packets;
        match self {
            Verdict::Up => format!("the last packet from the peer came {} ago", ago(facts)),
            Verdict::Quiet => format!(
                "the peer answered before, the last time {} ago; try it with: portspace run {name} -- ping {}",
                ago(facts),
                space.configured_peer
            ),
            Verdict::NoMachine => {
                "no front end is connected to its socket; start one with the options plug printed".to_owned()
            }
            Verdict::GuestNotRunning => {
                "the guest's network driver does not run its queues: it is starting, or it has failed; see the log".to_owned()
            }
            Verdict::Expired => {
                "the hard lifetime of the SAs is over; restart both ends with new keys".to_owned()
            }
            Verdict::Exhausted => {
                "an SA has used up its sequence numbers; restart both ends with new keys, or set esn = true".to_owned()
            }
            Verdict::NothingSent => format!(
                "the space has sent nothing yet, and nothing came; try it with: portspace run {name} -- ping {}",
                space.configured_peer
            ),
            Verdict::PolicyOut => format!(
                "what the space sends is for addresses, protocols or ports that no policy protects ({} packets); see: portspace policy ls {name}",
                facts.dropped("policy")
            ),
            Verdict::TooBig => format!(
                "what the space sends does not fit ({} packets): at most {} bytes do; set the MTU inside to that",
                facts.dropped("too_big"),
                space.mtu
            ),
            Verdict::ForeignSource => format!(
                "what the space sends is from an address that is not its own ({} packets); set {} inside",
                facts.dropped("foreign_source"),
                list(&space.addresses)
            ),
            Verdict::Unsendable => format!(
                "the kernel takes no packets to {peer} ({} were lost); look at the route and the firewall of this host",
                facts.unsent
            ),
            Verdict::PeerSilent if facts.is_local() => format!(
                "{} sent and nothing ever came back; is the other space up, and has it these SPIs the other way round?",
                count(sent, "packet")
            ),
            Verdict::PeerSilent => format!(
                "{} sent to {peer} and nothing ever came back; is the peer running, is {} the right address, and is {} open on the way and there?",
                count(sent, "packet"),
                peer.ip(),
                way(space)
            ),
            Verdict::Forged => format!(
                "packets come from the peer ({}), but their integrity check fails; the keys or the algorithms of the two ends differ",
                facts.discarded("forged") + facts.discarded("truncated") + facts.discarded("bad_padding")
            ),
            Verdict::Replayed => format!(
                "packets come with sequence numbers that were there before ({}); the peer has restarted with the same keys, or somebody replays: restart both ends",
                facts.discarded("replayed")
            ),
            Verdict::PolicyIn => format!(
                "authentic packets come that no policy wants ({}); remote, protocol and ports of the two ends have to mirror each other",
                facts.discarded("policy") + facts.discarded("foreign_selector")
            ),
            Verdict::OtherMode => format!(
                "authentic packets come that are no payload for {} mode ({}); set the same mode at both ends",
                mode(space.mode),
                facts.discarded("malformed")
            ),
            Verdict::ForeignSocket => format!(
                "packets with its SPI come to another address or port of this host ({}); the peer has to send to {}",
                facts.dropped("foreign_peer"),
                space.local
            ),
            Verdict::UnknownSpi => format!(
                "packets come with SPIs nobody here has ({}); if they are this peer's, its outbound SPI has to be {} here",
                facts.stray("unknown_spi"),
                spis(space)
            ),
            Verdict::NotEsp => format!(
                "packets come that are no ESP ({}); does the peer speak IKE, which is not available here?",
                facts.stray("not_esp")
            ),
            Verdict::GuestFull => format!(
                "packets from the peer are lost because the guest takes none ({}); is it overloaded, or stuck?",
                facts.dropped("guest_full")
            ),
        }
    }
}

/// What else is worth knowing, whatever the verdict.
pub(crate) fn remarks(facts: &Facts<'_>) -> Vec<String> {
    let space = facts.space;
    let mut remarks = Vec::new();
    if space.held > 0 {
        remarks.push(format!("its limits made it wait {}", count(space.held, "time")));
    }
    let soft = |pair: &&switch::status::PairStatus| {
        [pair.inbound.state, pair.outbound.state].contains(&Age::SoftExpired)
    };
    match space.pairs.iter().filter(soft).count() {
        0 => {}
        pairs => remarks.push(format!(
            "{} reached the soft lifetime; renew the keys of both ends",
            count(pairs as u64, "SA pair")
        )),
    }
    if space.path_mtu < 1500 && !facts.is_local() {
        remarks.push(format!("the way to the peer takes packets of {} bytes", space.path_mtu));
    }
    if space.peer.ip() != space.configured_peer && !facts.is_local() {
        remarks.push(format!("the peer is behind a NAT, or has moved: it is at {}", space.peer));
    }
    remarks
}

fn ago(facts: &Facts<'_>) -> String {
    crate::table::duration(facts.silence_ns().unwrap_or(0))
}

fn way(space: &SpaceStatus) -> String {
    match space.peer.port() {
        0 => "IP protocol 50 (ESP)".to_owned(),
        port => format!("UDP port {port}"),
    }
}

/// The mode, for people.
pub(crate) fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Transport => "transport",
        Mode::Tunnel => "tunnel",
    }
}

fn spis(space: &SpaceStatus) -> String {
    let spis: Vec<_> =
        space.pairs.iter().take(4).map(|p| format!("{:#x}", p.inbound.spi)).collect();
    if spis.is_empty() { "one".to_owned() } else { spis.join(" or ") }
}

fn list(addresses: &[std::net::IpAddr]) -> String {
    let each: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    each.join(" and ")
}

#[cfg(test)]
mod tests;
