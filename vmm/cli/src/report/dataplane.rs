//! What a packet costs without sockets.

use std::fmt::Write as _;

use serde::Serialize;

use super::Spread;

/// All of a `bench dataplane`; its JSON, which stays stable.
#[derive(Clone, Debug, Serialize)]
pub struct DataPlane {
    /// The algorithm.
    pub suite: &'static str,
    /// Bytes of each packet that are sealed.
    pub sealed_bytes: usize,
    /// The cipher alone first.
    pub paths: Vec<Path>,
}

/// One way of a packet.
#[derive(Clone, Debug, Serialize)]
pub struct Path {
    /// Which.
    pub name: &'static str,
    /// One packet, ns.
    pub ns: Spread,
    /// Over the cipher alone, round by round.
    pub ratio: Spread,
}

impl DataPlane {
    /// The table for a person.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a String takes every write");
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let what = format!("{} bytes, {}", self.sealed_bytes, self.suite);
        writeln!(out, "\n{what:<28} {:>10}  over ring alone, median (min-max)", "ns")?;
        for Path { name, ns, ratio } in &self.paths {
            writeln!(out, "{name:<28} {:>10.0}  {}", ns.median, ratio.text())?;
        }
        Ok(())
    }
}
