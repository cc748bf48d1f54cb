//! `[overlay]`: addresses, modes, and how they fit together.

use std::net::IpAddr;

use serde::Deserialize;
use toml::Spanned;

use switch::overlay::{
    DEFAULT_KEEPALIVE_S, DEFAULT_PORT, Dscp, Encapsulation, Limits, Mode, Overlay, Range, SaPair,
};

use super::files::Dns;
use super::policy::RawPolicy;
use super::sa::RawPair;
use super::traffic::ranges;
use super::word::Words;
use super::{Keyed, Mistake, Source, at, session};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOverlay {
    local: Spanned<String>,
    peer: Spanned<String>,
    port: Option<Spanned<u16>>,
    peer_port: Option<Spanned<u16>>,
    mode: Option<Spanned<String>>,
    remote: Option<Spanned<Vec<Spanned<String>>>>,
    encapsulation: Option<Spanned<String>>,
    dscp: Option<Spanned<String>>,
    keepalive: Option<Spanned<u16>>,
    pub(super) dns: Dns,
    ike: Option<Spanned<toml::Table>>,
    manual: Option<Spanned<RawPair>>,
    #[serde(default)]
    sa: Vec<Spanned<RawPair>>,
    #[serde(default)]
    policy: Vec<Spanned<RawPolicy>>,
}

/// What other sections say of the overlay.
pub(super) struct Own {
    pub(super) addresses: Option<Spanned<Words>>,
    pub(super) limits: Limits,
}

/// What the parts of an overlay must fit to.
pub(super) struct Frame {
    pub(super) mode: Mode,
    pub(super) encapsulation: Encapsulation,
    /// The space's own addresses: at most one of each family, at least one.
    pub(super) own: Vec<IpAddr>,
    /// `[overlay] remote`, which holds for SAs that say nothing.
    pub(super) remote: Vec<Range>,
}

impl Frame {
    /// Whether the space has an address of the family of `range`.
    pub(super) fn speaks(&self, range: &Range) -> bool {
        self.own.iter().any(|own| own.is_ipv4() == range.is_ipv4())
    }
}

impl RawOverlay {
    pub(super) fn convert(
        mut self,
        source: &Source<'_>,
        own: Own,
        keyed: Keyed,
    ) -> Result<Overlay, Mistake> {
        let mode = match &self.mode {
            None => Mode::Transport,
            Some(mode) => match mode.get_ref().as_str() {
                "transport" => Mode::Transport,
                "tunnel" => Mode::Tunnel,
                other => {
                    let what = format!("{other:?} is no mode; use \"transport\" or \"tunnel\"");
                    return Err(at(source, mode, what));
                }
            },
        };
        let encapsulation = self.encapsulation(source)?;
        if let (Mode::Tunnel, Encapsulation::Local, Some(field)) =
            (mode, encapsulation, &self.encapsulation)
        {
            let what = "\"local\" reaches one other space, not what is behind it; use mode = \"transport\"";
            return Err(at(source, field, what));
        }
        let (local, peer) = self.ends(source)?;
        let addresses = own_addresses(source, own.addresses.as_ref(), mode)?;
        let within = if addresses.is_empty() { vec![local] } else { addresses.clone() };
        let mut frame = Frame { mode, encapsulation, own: within, remote: Vec::new() };
        if let Some(remote) = &self.remote {
            if mode == Mode::Transport && !remote.get_ref().is_empty() {
                let what =
                    "contradicts transport mode, which reaches the peer alone; remove the field";
                return Err(at(source, remote, what));
            }
            frame.remote = ranges(source, remote.get_ref(), &frame)?;
        }
        let dscp = self.dscp(source, encapsulation)?;
        let keepalive_s = self.keepalive(source, encapsulation)?;
        let policies = std::mem::take(&mut self.policy);
        let sas = self.pairs(source, &frame, keyed)?;
        let policies = policies
            .into_iter()
            .map(|policy| policy.into_inner().convert(source, &frame, sas.len()))
            .collect::<Result<_, _>>()?;
        let limits = own.limits;
        Ok(Overlay {
            local,
            peer,
            encapsulation,
            mode,
            addresses,
            sas,
            policies,
            dscp,
            keepalive_s,
            limits,
        })
    }

    fn ends(&self, source: &Source<'_>) -> Result<(IpAddr, IpAddr), Mistake> {
        let local = address(source, &self.local)?;
        let peer = address(source, &self.peer)?;
        if local == peer {
            return Err(at(source, &self.peer, "is the local address; name the other end"));
        }
        if local.is_ipv4() != peer.is_ipv4() {
            let [own, other] = [local, peer].map(family);
            let what = format!("is {other} where local is {own}; name two addresses of one family");
            return Err(at(source, &self.peer, what));
        }
        Ok((local, peer))
    }

    fn encapsulation(&self, source: &Source<'_>) -> Result<Encapsulation, Mistake> {
        let named = match &self.encapsulation {
            None => None,
            Some(way) => match way.get_ref().as_str() {
                "udp" => None,
                "raw" => Some(("raw", Encapsulation::Raw)),
                "local" => Some(("local", Encapsulation::Local)),
                other => {
                    let what = format!(
                        "{other:?} is no encapsulation; use \"udp\", \"raw\" (IP protocol 50) or \"local\" (a space of this host)"
                    );
                    return Err(at(source, way, what));
                }
            },
        };
        if let Some((name, encapsulation)) = named {
            if let Some(port) = self.port.as_ref().or(self.peer_port.as_ref()) {
                let what = format!(
                    "contradicts encapsulation \"{name}\", which has no ports; remove the field"
                );
                return Err(at(source, port, what));
            }
            return Ok(encapsulation);
        }
        let port = |port: &Option<Spanned<u16>>| match port {
            None => Ok(DEFAULT_PORT),
            Some(port) => nonzero(source, port),
        };
        Ok(Encapsulation::Udp { port: port(&self.port)?, peer_port: port(&self.peer_port)? })
    }

    fn dscp(&self, source: &Source<'_>, encapsulation: Encapsulation) -> Result<Dscp, Mistake> {
        let Some(dscp) = &self.dscp else { return Ok(Dscp::Clear) };
        match dscp.get_ref().as_str() {
            "clear" => Ok(Dscp::Clear),
            "copy" if encapsulation == Encapsulation::Local => {
                let what = "contradicts encapsulation \"local\", which has no outer header; remove the field";
                Err(at(source, dscp, what))
            }
            "copy" => Ok(Dscp::Copy),
            other => {
                let what = format!("{other:?} is nothing to do with it; use \"clear\" or \"copy\"");
                Err(at(source, dscp, what))
            }
        }
    }

    fn keepalive(&self, source: &Source<'_>, encapsulation: Encapsulation) -> Result<u16, Mistake> {
        match (&self.keepalive, encapsulation) {
            (None, Encapsulation::Udp { .. }) => Ok(DEFAULT_KEEPALIVE_S),
            (Some(seconds), Encapsulation::Udp { .. }) => Ok(*seconds.get_ref()),
            (Some(seconds), _) if *seconds.get_ref() > 0 => {
                let what = "is for NATs, which ESP in UDP alone passes; remove the field, or use encapsulation \"udp\"";
                Err(at(source, seconds, what))
            }
            _ => Ok(0),
        }
    }

    /// The SAs, from the one place that may hold them.
    fn pairs(
        self,
        source: &Source<'_>,
        frame: &Frame,
        keyed: Keyed,
    ) -> Result<Vec<SaPair>, Mistake> {
        let manual = self.manual.as_ref().map(Spanned::span);
        let listed = self.sa.first().map(Spanned::span);
        let refused = |span, what: &str| Err(source.mistake(Some(span), None, what.to_owned()));
        if let Keyed::BySession(file, mut pairs) = keyed {
            if let Some(span) = manual.or(listed) {
                return refused(span, "contradicts --session-keys; keep one of the two");
            }
            session::check(&file, &mut pairs, frame)?;
            return Ok(pairs);
        }
        match (&self.ike, &manual, &listed) {
            (Some(ike), Some(_), _) => {
                Err(at(source, ike, "contradicts [overlay.manual]; keep one of the two"))
            }
            (Some(ike), _, _) => {
                let what = "IKE is not available yet; key the overlay with [overlay.manual]";
                Err(at(source, ike, what))
            }
            (None, Some(_), Some(sa)) => {
                refused(sa.clone(), "contradicts [overlay.manual]; keep one of the two")
            }
            (None, None, None) => {
                let what = "nothing keys the overlay; add [overlay.manual] with cipher, in and out";
                let span = Some(self.local.span());
                Err(source.mistake(span, Some("[overlay]"), what.to_owned()))
            }
            (None, _, Some(sa)) if frame.encapsulation == Encapsulation::Local => {
                let what = "contradicts encapsulation \"local\", which takes one pair of SPIs; use [overlay.manual]";
                refused(sa.clone(), what)
            }
            _ => RawPair::convert_all(self.manual, self.sa, source, frame),
        }
    }
}

/// The space's own addresses; none: those of the host.
fn own_addresses(
    source: &Source<'_>,
    words: Option<&Spanned<Words>>,
    mode: Mode,
) -> Result<Vec<IpAddr>, Mistake> {
    let Some(words) = words else { return Ok(Vec::new()) };
    let list = match words.get_ref() {
        Words::One(word) if word == "inherit" => return Ok(Vec::new()),
        Words::One(word) => std::slice::from_ref(word),
        Words::List(list) => &list[..],
    };
    if mode == Mode::Transport {
        let what = "in transport mode a space has its host's own address; use \"inherit\", or mode = \"tunnel\"";
        return Err(at(source, words, what));
    }
    if list.is_empty() {
        return Err(at(source, words, "is empty; use \"inherit\", or name an address"));
    }
    let mut addresses = Vec::new();
    for text in list {
        let address = host(text).map_err(|what| at(source, words, what))?;
        if addresses.iter().any(|other: &IpAddr| other.is_ipv4() == address.is_ipv4()) {
            let what = format!(
                "{address} is a second {} address; name one of each family at most",
                family(address)
            );
            return Err(at(source, words, what));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

fn address(source: &Source<'_>, text: &Spanned<String>) -> Result<IpAddr, Mistake> {
    host(text.get_ref()).map_err(|what| at(source, text, what))
}

/// One host's address.
fn host(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| {
        format!("{text:?} is no IP address; write it like \"192.0.2.10\" or \"2001:db8::10\"")
    })?;
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || is_broadcast {
        return Err("is not one host's address; name one host".to_owned());
    }
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err("is an IPv4 address in IPv6's clothes; write it as IPv4".to_owned())
        }
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            Err("means something on one link only; name a global or unique local address"
                .to_owned())
        }
        address => Ok(address),
    }
}

/// The family of an address, for people.
pub(super) fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn nonzero(source: &Source<'_>, port: &Spanned<u16>) -> Result<u16, Mistake> {
    match *port.get_ref() {
        0 => Err(at(source, port, "port 0 is none; use 4500 or another port above 0")),
        port => Ok(port),
    }
}
