//! What the demo and the benches found: stable JSON, and the same for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

mod dataplane;
mod files;
mod scale;
mod statistics;
mod throughput;

pub use dataplane::{DataPlane, Path};
pub use files::{FileSystem, Files, Growth, Job};
pub use scale::{Lookup, Sas, Scale, Spaces};
pub(crate) use statistics::to_thousandths;
pub use statistics::{Distribution, Figures, Spread};
pub use throughput::{
    Against, Contender, Direction, Rate, Row, Sent, Stream, Strongswan, Throughput, Transport,
};

/// The round-trip table: by way, then by algorithm.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RoundTrips {
    /// No IPsec.
    pub base: BTreeMap<String, Figures>,
    /// TUN and ESP on both ends.
    pub bare: BTreeMap<String, Figures>,
    /// A guest on A, bare IPsec on its peer.
    pub personal: BTreeMap<String, Figures>,
}

/// A space that was booted.
#[derive(Clone, Debug, Serialize)]
pub struct Space {
    /// Its name.
    pub name: String,
    /// Its address: the host's own.
    pub address: String,
    /// Milliseconds from the start of the VM process to the first answered packet.
    pub boot_ms: f64,
    /// Memory of the VM process without the guest's, KiB.
    pub vm_kib: u64,
    /// Memory the guest has touched, KiB.
    pub guest_kib: u64,
}

/// One thing that had to be so.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// Whether it was.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
}

/// All of a run; the JSON of `demo` and `bench`, which stays stable.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The spaces of the demo.
    pub spaces: Vec<Space>,
    /// What had to be so.
    pub checks: Vec<Check>,
    /// The round-trip table.
    pub rtt: RoundTrips,
    /// By algorithm.
    pub ratio_personal_bare: BTreeMap<String, Spread>,
}

impl Report {
    /// Whether every check is ok.
    pub fn ok(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    /// Notes a check.
    pub fn check(&mut self, name: &str, ok: bool, detail: impl Into<String>) {
        self.checks.push(Check { name: name.to_owned(), ok, detail: detail.into() });
    }

    /// Prints the report on standard output.
    pub fn print(&self, json: bool) {
        if json {
            say!("{}", serde_json::to_string_pretty(self).expect("a report is JSON"));
        } else {
            print!("{}", self.text());
        }
    }

    /// The report for a person.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a String takes every write");
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        for space in &self.spaces {
            writeln!(
                out,
                "{:<8} {}  first answered packet after {:.1} ms, VM process {} KiB, guest {} KiB",
                space.name, space.address, space.boot_ms, space.vm_kib, space.guest_kib
            )?;
        }
        if !self.checks.is_empty() {
            writeln!(out)?;
        }
        for check in &self.checks {
            let mark = if check.ok { "ok    " } else { "FAILED" };
            writeln!(out, "{mark}  {}: {}", check.name, check.detail)?;
        }
        if self.ratio_personal_bare.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "\nTCP round trip of 1 byte, µs    {:^23}  {:^23}  {:^23}  personal / bare",
            "base (no IPsec)", "bare IPsec", "personal network"
        )?;
        let heads = format!("{:>7} {:>7} {:>7}", "p50", "p90", "p99");
        writeln!(out, "{:<30}  {heads}  {heads}  {heads}  median (min-max)", "algorithm")?;
        for (suite, ratio) in &self.ratio_personal_bare {
            write!(out, "{suite:<30}")?;
            for way in [&self.rtt.base, &self.rtt.bare, &self.rtt.personal] {
                match way.get(suite) {
                    Some(f) => {
                        write!(out, "  {:>7.1} {:>7.1} {:>7.1}", f.p50_us, f.p90_us, f.p99_us)?;
                    }
                    None => write!(out, "  {:>23}", "-")?,
                }
            }
            writeln!(out, "  {}", ratio.text())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(p50_us: f64) -> Distribution {
        Distribution { count: 1, min_us: 1.0, p50_us, p90_us: p50_us, p99_us: 9.0, max_us: 9.0 }
    }

    #[test]
    fn the_json_has_the_promised_form() {
        let mut report = Report::default();
        report.check("one", true, "seen");
        let figures = Figures::of(&[round(2.0)]);
        report.rtt.base.insert("null+hmac-sha256".into(), figures);
        let ratio = Spread { median: 1.0, min: 1.0, max: 1.0 };
        report.ratio_personal_bare.insert("null+hmac-sha256".into(), ratio);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["checks"][0]["ok"], true);
        assert_eq!(json["rtt"]["base"]["null+hmac-sha256"]["p50_us"], 2.0);
        assert_eq!(json["ratio_personal_bare"]["null+hmac-sha256"]["median"], 1.0);
        assert!(json["spaces"].as_array().unwrap().is_empty());
        assert!(report.ok() && report.text().contains("ok      one: seen"));
        report.check("two", false, "not seen");
        assert!(!report.ok());
    }
}
