//! Configuration files for a lab's overlays, with fresh random keys for each.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};
use switch::overlay::Suite;
use zeroize::Zeroizing;

use crate::failure::{Outcome, While};

/// Two ends of one overlay that share keys.
pub struct Keys {
    suite: Suite,
    /// From A to the peer, and back.
    directions: [Direction; 2],
}

/// One direction.
struct Direction {
    spi: u32,
    cipher_key: Zeroizing<String>,
    auth_key: Zeroizing<String>,
}

/// One end.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its UDP port.
    pub port: u16,
}

impl Keys {
    /// Fresh keys for SPIs `spi` (from A) and `spi` + 1 (to A).
    ///
    /// # Errors
    /// The kernel has no random numbers yet.
    pub fn fresh(suite: Suite, spi: u32) -> Outcome<Self> {
        let direction = |spi| {
            let cipher_key = random_hex(suite.cipher_key_len())?;
            Ok(Direction { spi, cipher_key, auth_key: random_hex(suite.auth_key_len())? })
        };
        Ok(Self { suite, directions: [direction(spi)?, direction(spi + 1)?] })
    }

    /// Writes A's file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_near(
        &self,
        path: &Path,
        near: Endpoint,
        far: Endpoint,
        root: Option<&Path>,
    ) -> Outcome<PathBuf> {
        let [out, inbound] = &self.directions;
        self.write(path, near, far, [inbound, out], root)
    }

    /// Writes the peer's file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_far(&self, path: &Path, near: Endpoint, far: Endpoint) -> Outcome<PathBuf> {
        let [inbound, out] = &self.directions;
        self.write(path, far, near, [inbound, out], None)
    }

    fn write(
        &self,
        path: &Path,
        own: Endpoint,
        other: Endpoint,
        [inbound, out]: [&Direction; 2],
        root: Option<&Path>,
    ) -> Outcome<PathBuf> {
        let mut text = Zeroizing::new(String::with_capacity(4096));
        let written = (|| {
            if let Some(root) = root {
                writeln!(text, "[files]\nroot = \"{}\"\n", root.display())?;
            }
            writeln!(text, "[overlay]\nlocal = \"{}\"\npeer = \"{}\"", own.address, other.address)?;
            writeln!(text, "port = {}\npeer_port = {}", own.port, other.port)?;
            let Suite::Combined(cipher, _) = self.suite else { return Err(std::fmt::Error) };
            writeln!(text, "\n[overlay.manual]\ncipher = \"{}\"", cipher.name())?;
            for (name, direction) in [("in", inbound), ("out", out)] {
                writeln!(text, "\n[overlay.manual.{name}]\nspi = {:#x}", direction.spi)?;
                if !direction.cipher_key.is_empty() {
                    writeln!(text, "cipher_key = \"{}\"", *direction.cipher_key)?;
                }
                writeln!(text, "auth_key = \"{}\"", *direction.auth_key)?;
            }
            std::fmt::Result::Ok(())
        })();
        written.expect("a String takes every write");
        std::fs::write(path, text.as_bytes())
            .or_fail(|| format!("cannot write {}", path.display()))?;
        Ok(path.to_owned())
    }
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

fn random_hex(length: usize) -> Outcome<Zeroizing<String>> {
    let bytes = random(length)?;
    let mut text = Zeroizing::new(String::with_capacity(2 * length));
    for byte in bytes.iter() {
        write!(text, "{byte:02x}").expect("a String takes every write");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use switch::overlay::{Cipher, Integrity};

    #[test]
    fn both_ends_read_their_files_and_mirror_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let end = |last| Endpoint { address: Ipv4Addr::new(192, 0, 2, last), port: 4500 };
        for cipher in Cipher::ALL {
            let suite = Suite::Combined(cipher, Integrity::HmacSha256);
            let keys = Keys::fresh(suite, 0x1000).unwrap();
            let near = directory.path().join("near.toml");
            let far = directory.path().join("far.toml");
            keys.write_near(&near, end(10), end(20), Some(directory.path())).unwrap();
            keys.write_far(&far, end(10), end(20)).unwrap();
            let (near, far) = (Config::read(&near).unwrap(), Config::read(&far).unwrap());
            assert_eq!(near.root.as_deref(), Some(directory.path()));
            assert_eq!(
                (near.overlay.local, far.overlay.local),
                (near.overlay.local, near.overlay.peer)
            );
            let json = |sa| serde_json::to_string(sa).unwrap();
            let (near, far) = (&near.overlay.sas[0], &far.overlay.sas[0]);
            assert_eq!(json(&near.inbound), json(&far.outbound));
            assert_eq!(json(&near.outbound), json(&far.inbound));
        }
    }
}
