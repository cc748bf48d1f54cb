//! Configuration files for a lab's overlays, with fresh random keys for each.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};
use switch::overlay::{
    DEFAULT_WINDOW, Encapsulation, Key, Lifetime, Range, Sa, SaPair, Suite, Traffic,
};
use zeroize::Zeroizing;

use crate::failure::{Outcome, While};

/// Two ends of one overlay that share keys.
///
/// Transport mode and ESP in UDP, unless told otherwise before the files are written:
///
/// ```no_run
/// # use cli::lab::network::Keys;
/// # use switch::overlay::{Aead, Encapsulation, Suite};
/// let keys = Keys::fresh(Suite::Aead(Aead::AesGcm256), 0x1000)?
///     .encapsulation(Encapsulation::Raw)
///     .tunnel("10.1.0.5".parse().unwrap(), "10.2.0.0/16".parse().unwrap())
///     .esn(true);
/// # cli::Outcome::Ok(())
/// ```
pub struct Keys {
    suite: Suite,
    /// From A to the peer, and back.
    directions: [Sa; 2],
    encapsulation: Option<Encapsulation>,
    /// What is behind each end, A's first; an end whose range is one address has it as its own.
    tunnel: Option<[Range; 2]>,
    esn: bool,
    window: u16,
    lifetime: Lifetime,
    further: String,
}

/// One end.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<A = std::net::Ipv4Addr> {
    /// Its address.
    pub address: A,
    /// Its UDP port.
    pub port: u16,
}

impl Keys {
    /// Fresh keys for SPIs `spi` (from A) and `spi` + 1 (to A).
    ///
    /// # Errors
    /// The kernel has no random numbers yet.
    pub fn fresh(suite: Suite, spi: u32) -> Outcome<Self> {
        let sa = |spi| {
            let [cipher_key, auth_key] = [suite.cipher_key_len(), suite.auth_key_len()]
                .map(|length| random(length).map(Key::from_bytes));
            Outcome::Ok(Sa { spi, suite, cipher_key: cipher_key?, auth_key: auth_key? })
        };
        Ok(Self {
            suite,
            directions: [sa(spi)?, sa(spi + 1)?],
            encapsulation: None,
            tunnel: None,
            esn: false,
            window: DEFAULT_WINDOW,
            lifetime: Lifetime::default(),
            further: String::new(),
        })
    }

    /// What the packets travel in; of [`Encapsulation::Udp`] the endpoints' ports are taken.
    #[must_use]
    pub fn encapsulation(self, encapsulation: Encapsulation) -> Self {
        Self { encapsulation: Some(encapsulation), ..self }
    }

    /// Tunnel mode between what is behind A and what is behind the peer; one address is the
    /// end's own.
    #[must_use]
    pub fn tunnel(self, near: Range, far: Range) -> Self {
        Self { tunnel: Some([near, far]), ..self }
    }

    /// Whether sequence numbers have 64 bits.
    #[must_use]
    pub fn esn(self, esn: bool) -> Self {
        Self { esn, ..self }
    }

    /// The replay window, packets.
    #[must_use]
    pub fn window(self, window: u16) -> Self {
        Self { window, ..self }
    }

    /// How long the SAs may be used.
    #[must_use]
    pub fn lifetime(self, lifetime: Lifetime) -> Self {
        Self { lifetime, ..self }
    }

    /// Lines for the end of both files: `[[overlay.policy]]`, `[limits]`, ...
    #[must_use]
    pub fn further(self, further: &str) -> Self {
        Self { further: further.to_owned(), ..self }
    }

    /// Writes A's file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_near<A: Into<IpAddr> + Copy>(
        &self,
        path: &Path,
        near: Endpoint<A>,
        far: Endpoint<A>,
        root: Option<&Path>,
    ) -> Outcome<PathBuf> {
        let [out, inbound] = &self.directions;
        let behind = self.tunnel;
        self.write(path, near, far, Side { inbound, out, behind }, root)
    }

    /// Writes the peer's file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_far<A: Into<IpAddr> + Copy>(
        &self,
        path: &Path,
        near: Endpoint<A>,
        far: Endpoint<A>,
    ) -> Outcome<PathBuf> {
        let [inbound, out] = &self.directions;
        let behind = self.tunnel.map(|[near, far]| [far, near]);
        self.write(path, far, near, Side { inbound, out, behind }, None)
    }

    fn write<A: Into<IpAddr>>(
        &self,
        path: &Path,
        own: Endpoint<A>,
        other: Endpoint<A>,
        side: Side<'_>,
        root: Option<&Path>,
    ) -> Outcome<PathBuf> {
        let mut text = Zeroizing::new(String::with_capacity(4096));
        self.describe(&mut text, own, other, &side, root).expect("a String takes every write");
        if self.suite.is_aead() {
            let pairs = [self.pair(&side)];
            let keys = serde_json::to_vec(&pairs).map(Zeroizing::new).expect("SAs are JSON");
            write(&session_keys(path), &keys)?;
        }
        write(path, text.as_bytes())?;
        Ok(path.to_owned())
    }

    fn describe<A: Into<IpAddr>>(
        &self,
        text: &mut String,
        own: Endpoint<A>,
        other: Endpoint<A>,
        side: &Side<'_>,
        root: Option<&Path>,
    ) -> std::fmt::Result {
        if let Some(root) = root {
            writeln!(text, "[files]\nroot = \"{}\"\n", root.display())?;
        }
        if let Some([range, _]) = side.behind
            && range.first() == range.last()
        {
            writeln!(text, "[space]\naddress = [\"{range}\"]\n")?;
        }
        let (local, peer): (IpAddr, IpAddr) = (own.address.into(), other.address.into());
        writeln!(text, "[overlay]\nlocal = \"{local}\"\npeer = \"{peer}\"")?;
        match self.encapsulation {
            Some(Encapsulation::Raw) => writeln!(text, "encapsulation = \"raw\"")?,
            Some(Encapsulation::Local) => writeln!(text, "encapsulation = \"local\"")?,
            _ => writeln!(text, "port = {}\npeer_port = {}", own.port, other.port)?,
        }
        if let Some([_, remote]) = side.behind {
            writeln!(text, "mode = \"tunnel\"\nremote = [\"{remote}\"]")?;
        }
        if self.encapsulation == Some(Encapsulation::Local) {
            for (name, sa) in [("in", side.inbound), ("out", side.out)] {
                writeln!(text, "\n[overlay.manual.{name}]\nspi = {:#x}", sa.spi)?;
            }
        } else if let Suite::Combined(cipher, integrity) = self.suite {
            writeln!(text, "\n[overlay.manual]\ncipher = \"{}\"", cipher.name())?;
            writeln!(text, "auth = \"{}\"", integrity.name())?;
            writeln!(text, "esn = {}\nwindow = {}", self.esn, self.window)?;
            let bounds = [("soft", self.lifetime.soft), ("hard", self.lifetime.hard)];
            for (name, bounds) in bounds {
                let bounds = [
                    ("packets", bounds.packets),
                    ("bytes", bounds.bytes),
                    ("seconds", bounds.seconds),
                ];
                for (unit, bound) in bounds {
                    if let Some(bound) = bound {
                        writeln!(text, "lifetime.{name}.{unit} = {bound}")?;
                    }
                }
            }
            for (name, sa) in [("in", side.inbound), ("out", side.out)] {
                writeln!(text, "\n[overlay.manual.{name}]\nspi = {:#x}", sa.spi)?;
                if !sa.cipher_key.is_empty() {
                    writeln!(text, "cipher_key = \"{}\"", *sa.cipher_key.to_hex())?;
                }
                writeln!(text, "auth_key = \"{}\"", *sa.auth_key.to_hex())?;
            }
        }
        writeln!(text, "\n{}", self.further)
    }

    fn pair(&self, side: &Side<'_>) -> SaPair {
        SaPair {
            inbound: side.inbound.clone(),
            outbound: side.out.clone(),
            traffic: Traffic::default(),
            esn: self.esn,
            window: self.window,
            lifetime: self.lifetime,
        }
    }
}

/// The overlay as one end sees it.
struct Side<'a> {
    inbound: &'a Sa,
    out: &'a Sa,
    /// What is behind itself and behind the other end, in tunnel mode.
    behind: Option<[Range; 2]>,
}

/// Where the session keys of a file are, if it needs any.
pub fn session_keys(file: &Path) -> PathBuf {
    file.with_extension("keys.json")
}

/// `command FILE`, with `--session-keys` if there are any: what starts the end of a file.
///
/// # Panics
/// If the path is not UTF-8, which a lab's are.
pub fn arguments(command: &str, file: &Path) -> Vec<String> {
    let text = |path: &Path| path.to_str().expect("a lab's paths are plain").to_owned();
    let mut arguments = vec![command.to_owned(), text(file)];
    let keys = session_keys(file);
    if keys.exists() {
        arguments.extend(["--session-keys".to_owned(), text(&keys)]);
    }
    arguments
}

fn write(path: &Path, bytes: &[u8]) -> Outcome<()> {
    std::fs::write(path, bytes).or_fail(|| format!("cannot write {}", path.display()))
}

/// `length` random bytes.
///
/// # Errors
/// The kernel has no random numbers yet.
pub fn random(length: usize) -> Outcome<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; length]);
    let mut filled = 0;
    while filled < length {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())
            .or_fail(|| "the kernel gives no random numbers".to_owned())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use switch::overlay::Mode;

    use super::*;
    use crate::config::Config;

    /// What both ends read.
    fn both<A: Into<IpAddr> + Copy>(keys: &Keys, near: A, far: A) -> [Config; 2] {
        let directory = tempfile::tempdir().unwrap();
        let end = |address| Endpoint { address, port: 4500 };
        let near_file = directory.path().join("near.toml");
        let far_file = directory.path().join("far.toml");
        keys.write_near(&near_file, end(near), end(far), Some(directory.path())).unwrap();
        keys.write_far(&far_file, end(near), end(far)).unwrap();
        [near_file, far_file].map(|file| {
            let keys = Some(session_keys(&file)).filter(|keys| keys.exists());
            assert_eq!(arguments("up", &file).len(), if keys.is_some() { 4 } else { 2 });
            Config::read(&file, keys.as_deref()).unwrap()
        })
    }

    #[test]
    fn both_ends_read_their_files_and_mirror_each_other() {
        let [a, b] = [10, 20].map(|last| Ipv4Addr::new(192, 0, 2, last));
        for suite in Suite::ALL {
            let keys = Keys::fresh(suite, 0x1000).unwrap().esn(true).window(64);
            let [near, far] = both(&keys, a, b).map(|config| config.overlay);
            assert_eq!((near.local, far.local), (far.peer, near.peer));
            let json = |sa: &Sa| serde_json::to_string(sa).unwrap();
            let (near, far) = (&near.sas[0], &far.sas[0]);
            assert_eq!(json(&near.inbound), json(&far.outbound));
            assert_eq!(json(&near.outbound), json(&far.inbound));
            assert_eq!((near.inbound.suite, near.esn, far.window), (suite, true, 64));
        }
    }

    #[test]
    fn a_tunnel_mirrors_what_is_behind_its_ends() {
        let [a, b] = [1, 2].map(|last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
        let suite = Suite::ALL[0];
        let inside = "10.1.0.5".parse().unwrap();
        let lifetime = Lifetime {
            hard: switch::overlay::Bounds { packets: Some(9), ..Default::default() },
            ..Lifetime::default()
        };
        let keys = Keys::fresh(suite, 0x1000)
            .unwrap()
            .tunnel(inside, "10.2.0.0/16".parse().unwrap())
            .encapsulation(Encapsulation::Raw)
            .lifetime(lifetime)
            .further("[limits]\npackets = 5");
        let directory = tempfile::tempdir().unwrap();
        let end = |address| Endpoint { address, port: 0 };
        let file = directory.path().join("near.toml");
        keys.write_near(&file, end(a), end(b), None).unwrap();
        let near = Config::read(&file, None).unwrap().overlay;
        assert_eq!(near.addresses, [inside.first()]);
        assert_eq!((near.mode, near.encapsulation), (Mode::Tunnel, Encapsulation::Raw));
        assert_eq!(near.sas[0].traffic.remote, ["10.2.0.0/16".parse().unwrap()]);
        assert_eq!((near.sas[0].lifetime, near.limits.packets_per_s), (lifetime, Some(5)));
    }
}
