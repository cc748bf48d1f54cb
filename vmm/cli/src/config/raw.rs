//! The file as TOML has it, and its conversion.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use switch::overlay::{
    Cipher, DEFAULT_KEEPALIVE_S, DEFAULT_PORT, DEFAULT_WINDOW, Dscp, Encapsulation, Integrity, Key,
    Lifetime, Limits, Mode, Overlay, Sa, SaPair, Suite, Traffic,
};

use super::keys::{AUTH_KEY_BYTES, cipher_named, key_of};
use super::{Config, Mistake, Source, SpaceName};

const PAGE: u64 = 4096;
const DEFAULT_MEMORY: u64 = 64 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    space: Space,
    overlay: RawOverlay,
    #[serde(default)]
    ports: Ports,
    #[serde(default)]
    files: Files,
    #[serde(default)]
    tuning: Tuning,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Space {
    name: Option<Spanned<String>>,
    parent: Option<Spanned<String>>,
    address: Option<Spanned<String>>,
    guest: Option<Spanned<String>>,
    memory: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOverlay {
    local: Spanned<String>,
    peer: Spanned<String>,
    port: Option<Spanned<u16>>,
    peer_port: Option<Spanned<u16>>,
    mode: Option<Spanned<String>>,
    remote: Option<Spanned<Vec<String>>>,
    encapsulation: Option<Spanned<String>>,
    ike: Option<Spanned<toml::Table>>,
    manual: Option<Manual>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manual {
    cipher: Spanned<String>,
    r#in: RawSa,
    out: RawSa,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSa {
    spi: Spanned<u32>,
    cipher_key: Option<Spanned<String>>,
    auth_key: Spanned<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ports {
    inherit: Option<Spanned<Vec<String>>>,
    hide: Option<Spanned<Vec<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Files {
    root: Option<Spanned<String>>,
    mask: Option<Spanned<Vec<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tuning {
    spin_us: Option<Spanned<u32>>,
    guest_spin_us: Option<Spanned<u32>>,
}

fn at_most_a_second(
    source: &Source<'_>,
    spin: Option<Spanned<u32>>,
) -> Result<Option<u32>, Mistake> {
    match spin {
        Some(spin) if *spin.get_ref() > 1_000_000 => {
            Err(at(source, &spin, "is longer than a second; use at most 1000000"))
        }
        spin => Ok(spin.map(Spanned::into_inner)),
    }
}

impl File {
    pub(super) fn convert(self, source: &Source<'_>, stem: &str) -> Result<Config, Mistake> {
        let name = match &self.space.name {
            Some(name) => name
                .get_ref()
                .parse::<SpaceName>()
                .map_err(|error| at(source, name, error.to_string()))?,
            None => stem.parse::<SpaceName>().map_err(|error| {
                let what = format!("the file's own name is the default, but {error}; add a name");
                source.mistake(None, Some("[space] name"), what)
            })?,
        };
        let memory_bytes = self.space.convert(source)?;
        self.ports.convert(source)?;
        if let Some(mask) = &self.files.mask
            && !mask.get_ref().is_empty()
        {
            let what = "masking is not available yet; choose a root that holds nothing secret and remove the field";
            return Err(at(source, mask, what));
        }
        let root = self.files.root.map(|root| absolute(source, root)).transpose()?;
        let spin_us = at_most_a_second(source, self.tuning.spin_us)?;
        let guest_spin_us = at_most_a_second(source, self.tuning.guest_spin_us)?;
        let overlay = self.overlay.convert(source)?;
        Ok(Config { name, memory_bytes, spin_us, guest_spin_us, overlay, root })
    }
}

impl Space {
    /// The guest's memory in bytes; all else of the section has one meaning yet.
    fn convert(&self, source: &Source<'_>) -> Result<u64, Mistake> {
        one_of(source, &self.parent, "base", |parent| {
            format!("spaces as parents ({parent:?}) are not available yet; use \"base\"")
        })?;
        one_of(source, &self.address, "inherit", |_| {
            "a space has its parent's own address; use \"inherit\"".to_owned()
        })?;
        one_of(source, &self.guest, "native", |guest| match guest {
            "linux" => "the Linux guest is not available yet; use \"native\"".to_owned(),
            _ => format!("{guest:?} is no guest; use \"native\""),
        })?;
        let Some(memory) = &self.memory else { return Ok(DEFAULT_MEMORY) };
        let bytes = parse_size(memory.get_ref()).ok_or_else(|| {
            at(source, memory, "is no size; write a whole number and K, M or G, like \"64M\"")
        })?;
        if !(16 << 20..=3 << 30).contains(&bytes) || bytes % PAGE != 0 {
            return Err(at(source, memory, "is not a size a guest can have; use 16M to 3G"));
        }
        Ok(bytes)
    }
}

impl Ports {
    fn convert(&self, source: &Source<'_>) -> Result<(), Mistake> {
        for (ports, what) in [
            (&self.inherit, "inherited ports are not available yet; remove the field"),
            // Nothing is inherited, so everything is hidden already: only nonsense is refused.
            (&self.hide, ""),
        ] {
            let Some(ports) = ports else { continue };
            if let Some(bad) = ports.get_ref().iter().find(|port| !is_port(port)) {
                let what = format!("{bad:?} is no port; write \"tcp/22\" or \"udp/53\"");
                return Err(at(source, ports, what));
            }
            if !what.is_empty() && !ports.get_ref().is_empty() {
                return Err(at(source, ports, what));
            }
        }
        Ok(())
    }
}

impl RawOverlay {
    fn convert(self, source: &Source<'_>) -> Result<Overlay, Mistake> {
        one_of(source, &self.mode, "transport", |mode| match mode {
            "tunnel" => "tunnel mode is not available yet; use \"transport\"".to_owned(),
            _ => format!("{mode:?} is no mode; use \"transport\""),
        })?;
        if let Some(remote) = &self.remote {
            let what = "contradicts transport mode, which reaches the peer alone; remove the field";
            return Err(at(source, remote, what));
        }
        one_of(source, &self.encapsulation, "udp", |way| match way {
            "raw" => "raw ESP (IP protocol 50) is not available yet; use \"udp\"".to_owned(),
            _ => format!("{way:?} is no encapsulation; use \"udp\""),
        })?;
        let local = address(source, &self.local)?;
        let peer = address(source, &self.peer)?;
        if local == peer {
            return Err(at(source, &self.peer, "is the local address; name the other end"));
        }
        let port = self.port.map_or(Ok(DEFAULT_PORT), |port| nonzero(source, &port))?;
        let peer_port = self.peer_port.map_or(Ok(DEFAULT_PORT), |port| nonzero(source, &port))?;
        let manual = match (self.manual, &self.ike) {
            (Some(_), Some(ike)) => {
                return Err(at(source, ike, "contradicts [overlay.manual]; keep one of the two"));
            }
            (None, Some(ike)) => {
                let what = "IKE is not available yet; key the overlay with [overlay.manual]";
                return Err(at(source, ike, what));
            }
            (None, None) => {
                let what = "nothing keys the overlay; add [overlay.manual] with cipher, in and out";
                return Err(source.mistake(
                    Some(self.local.span()),
                    Some("[overlay]"),
                    what.to_owned(),
                ));
            }
            (Some(manual), None) => manual,
        };
        let cipher = cipher_named(manual.cipher.get_ref())
            .map_err(|what| at(source, &manual.cipher, what))?;
        let second = manual.out.auth_key.span();
        let same_key =
            manual.r#in.auth_key.get_ref().eq_ignore_ascii_case(manual.out.auth_key.get_ref());
        let inbound = manual.r#in.convert(source, cipher)?;
        let outbound = manual.out.convert(source, cipher)?;
        // Reflected packets would be authentic: the switch refuses it too, without a line.
        if same_key {
            let what =
                "is the key of [overlay.manual.in] too; give each direction a key of its own";
            return Err(source.mistake(Some(second), None, what.to_owned()));
        }
        let sas = vec![SaPair {
            inbound,
            outbound,
            traffic: Traffic::default(),
            esn: false,
            window: DEFAULT_WINDOW,
            lifetime: Lifetime::default(),
        }];
        Ok(Overlay {
            local: local.into(),
            peer: peer.into(),
            encapsulation: Encapsulation::Udp { port, peer_port },
            mode: Mode::Transport,
            addresses: Vec::new(),
            sas,
            policies: Vec::new(),
            dscp: Dscp::Clear,
            keepalive_s: DEFAULT_KEEPALIVE_S,
            limits: Limits::default(),
        })
    }
}

impl RawSa {
    fn convert(self, source: &Source<'_>, cipher: Cipher) -> Result<Sa, Mistake> {
        if *self.spi.get_ref() < 256 {
            let what = "SPIs below 256 are reserved (RFC 4303 2.1); use 0x100 or more";
            return Err(at(source, &self.spi, what));
        }
        let auth_key = key(source, &self.auth_key, AUTH_KEY_BYTES)?;
        let cipher_key = match (&self.cipher_key, cipher.key_len()) {
            (None, 0) => Key::default(),
            (Some(text), 0) if text.get_ref().is_empty() => Key::default(),
            (Some(text), 0) => {
                let what = "contradicts cipher \"null\", which has no key; remove one of the two";
                return Err(at(source, text, what));
            }
            (Some(text), length) => key(source, text, length)?,
            (None, length) => {
                let what = format!(
                    "is missing, and {} needs {length} bytes; add cipher_key with {} hex digits",
                    cipher.name(),
                    2 * length
                );
                let place = source.place(line_of(source, self.spi.span().start));
                let place = format!("{} cipher_key", place.trim_end_matches(" spi"));
                return Err(source.mistake(Some(self.spi.span()), Some(&place), what));
            }
        };
        let suite = Suite::Combined(cipher, Integrity::HmacSha256);
        Ok(Sa { spi: self.spi.into_inner(), suite, cipher_key, auth_key })
    }
}

fn line_of(source: &Source<'_>, offset: usize) -> usize {
    source.text[..offset].matches('\n').count() + 1
}

fn at<T>(source: &Source<'_>, value: &Spanned<T>, what: impl Into<String>) -> Mistake {
    source.mistake(Some(value.span()), None, what.into())
}

fn one_of(
    source: &Source<'_>,
    value: &Option<Spanned<String>>,
    only: &str,
    what: impl Fn(&str) -> String,
) -> Result<(), Mistake> {
    match value {
        Some(value) if value.get_ref() != only => Err(at(source, value, what(value.get_ref()))),
        _ => Ok(()),
    }
}

fn address(source: &Source<'_>, text: &Spanned<String>) -> Result<Ipv4Addr, Mistake> {
    let address: Ipv4Addr = text.get_ref().parse().map_err(|_| {
        let what = format!("{:?} is no IPv4 address; write it like \"192.0.2.10\"", text.get_ref());
        at(source, text, what)
    })?;
    if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
        return Err(at(source, text, "is not one host's address; name one host"));
    }
    Ok(address)
}

fn nonzero(source: &Source<'_>, port: &Spanned<u16>) -> Result<u16, Mistake> {
    match *port.get_ref() {
        0 => Err(at(source, port, "port 0 is none; use 4500 or another port above 0")),
        port => Ok(port),
    }
}

fn key(source: &Source<'_>, text: &Spanned<String>, length: usize) -> Result<Key, Mistake> {
    key_of(text.get_ref(), length).map_err(|what| at(source, text, what))
}

fn absolute(source: &Source<'_>, root: Spanned<String>) -> Result<PathBuf, Mistake> {
    let path = PathBuf::from(root.get_ref());
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(at(source, &root, "is not absolute; write the directory from / on"))
    }
}

fn is_port(text: &str) -> bool {
    text.strip_prefix("tcp/")
        .or_else(|| text.strip_prefix("udp/"))
        .and_then(|port| port.parse::<u16>().ok())
        .is_some_and(|port| port != 0)
}

/// `64M` in bytes.
fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.char_indices().next_back()? {
        (end, 'K') => (&text[..end], 10),
        (end, 'M') => (&text[..end], 20),
        (end, 'G') => (&text[..end], 30),
        _ => (text, 0),
    };
    digits.parse::<u32>().ok().map(|number| u64::from(number) << shift)
}
