//! Which packets an SA or a policy is for: ranges, protocols and ports by name.

use toml::Spanned;

use switch::overlay::{Mode, Range, Traffic};

use super::overlay::{Frame, family};
use super::word::Word;
use super::{Mistake, Source, at};

/// Protocols a file may name (IANA "protocol-numbers").
const PROTOCOLS: [(&str, u8); 5] =
    [("icmp", 1), ("tcp", 6), ("udp", 17), ("icmpv6", 58), ("sctp", 132)];

/// Protocols that have ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

/// The fields of one entry that say which packets it is for.
pub(super) struct RawTraffic {
    pub(super) remote: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) protocol: Option<Spanned<Word>>,
    pub(super) local_ports: Option<Spanned<Word>>,
    pub(super) remote_ports: Option<Spanned<Word>>,
}

impl RawTraffic {
    /// Where the first of the fields is that say something.
    pub(super) fn span(&self) -> Option<std::ops::Range<usize>> {
        let remote = self.remote.as_ref().map(Spanned::span);
        let words = [&self.protocol, &self.local_ports, &self.remote_ports];
        words.into_iter().flatten().map(Spanned::span).chain(remote).min_by_key(|span| span.start)
    }

    /// The packets; `remote` stays empty if nothing is said.
    pub(super) fn convert(self, source: &Source<'_>, frame: &Frame) -> Result<Traffic, Mistake> {
        let remote = match &self.remote {
            None => Vec::new(),
            Some(remote) if frame.mode == Mode::Transport => {
                let what =
                    "contradicts transport mode, which reaches the peer alone; remove the field";
                return Err(at(source, remote, what));
            }
            Some(remote) if remote.get_ref().is_empty() => {
                return Err(at(source, remote, "is empty; name addresses, or remove the field"));
            }
            Some(remote) => ranges(source, remote.get_ref(), frame)?,
        };
        let protocol = match &self.protocol {
            None => None,
            Some(word) => Some(protocol(&word.get_ref().0).map_err(|what| at(source, word, what))?),
        };
        let ports = |word: Option<Spanned<Word>>| {
            let Some(word) = word else { return Ok(None) };
            if !protocol.is_some_and(|protocol| WITH_PORTS.contains(&protocol)) {
                let what = "needs a protocol with ports beside it; add protocol = \"tcp\" or \"udp\", or remove the field";
                return Err(at(source, &word, what));
            }
            ports(&word.get_ref().0).map(Some).map_err(|what| at(source, &word, what))
        };
        let local_ports = ports(self.local_ports)?;
        let remote_ports = ports(self.remote_ports)?;
        Ok(Traffic { remote, protocol, local_ports, remote_ports })
    }
}

/// Ranges of addresses the space can speak to.
pub(super) fn ranges(
    source: &Source<'_>,
    texts: &[Spanned<String>],
    frame: &Frame,
) -> Result<Vec<Range>, Mistake> {
    texts
        .iter()
        .map(|text| {
            let range = text.get_ref().parse::<Range>();
            let range = range.map_err(|bad| at(source, text, remedied(&bad.to_string())))?;
            if frame.speaks(&range) {
                return Ok(range);
            }
            let family = family(range.first());
            let what = format!(
                "{range} is {family}, and the space has no {family} address; remove it, or add one to [space] address"
            );
            Err(at(source, text, what))
        })
        .collect()
}

/// What is wrong with a range, as a file's mistakes are told.
fn remedied(bad: &str) -> String {
    match bad.split_once(": ") {
        Some((what, remedy)) => format!("{what}; {remedy}"),
        None => format!("{bad}; write a shorter one"),
    }
}

/// A protocol by name or number.
fn protocol(text: &str) -> Result<u8, String> {
    let named = PROTOCOLS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    named.or_else(|| text.parse().ok()).ok_or_else(|| {
        format!("{text:?} is no protocol; use \"tcp\", \"udp\", \"icmp\", \"icmpv6\", \"sctp\" or a number from 0 to 255")
    })
}

/// The name of a protocol, or its number.
pub(crate) fn protocol_name(number: u8) -> String {
    let named = PROTOCOLS.iter().find(|(_, other)| *other == number);
    named.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// `80` or `8000-8100`.
fn ports(text: &str) -> Result<[u16; 2], String> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok([first, last]),
        (Some(first), Some(last)) => {
            Err(format!("{text:?} ends before it begins; write \"{last}-{first}\""))
        }
        _ => {
            Err(format!("{text:?} is no port and no range of ports; write \"80\" or \"8000-8100\""))
        }
    }
}
