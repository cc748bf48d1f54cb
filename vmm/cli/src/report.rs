//! What the demo and the benches found: stable JSON, and the same for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// Round-trip times of one run, microseconds; the guest's `rtt --json` prints the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// How many round trips.
    pub count: u64,
    /// The shortest.
    pub min_us: f64,
    /// Half are at most this.
    pub p50_us: f64,
    /// Nine of ten are at most this.
    pub p90_us: f64,
    /// 99 of 100 are at most this.
    pub p99_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Distribution {
    /// Of samples in nanoseconds.
    ///
    /// # Panics
    /// Without samples.
    pub fn of(mut samples: Vec<u64>) -> Self {
        samples.sort_unstable();
        // Nearest rank: the smallest sample that is not less than `percent` of them.
        let rank = |percent: usize| samples[(samples.len() * percent).div_ceil(100).max(1) - 1];
        let us = |ns: u64| ns as f64 / 1000.0;
        Self {
            count: samples.len() as u64,
            min_us: us(samples[0]),
            p50_us: us(rank(50)),
            p90_us: us(rank(90)),
            p99_us: us(rank(99)),
            max_us: us(samples[samples.len() - 1]),
        }
    }
}

/// The three figures of a cell of the table: medians over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Median of the rounds' medians.
    pub p50_us: f64,
    /// Median of the rounds' 90th percentiles.
    pub p90_us: f64,
    /// Median of the rounds' 99th percentiles.
    pub p99_us: f64,
}

impl Figures {
    /// Of the rounds of one cell.
    ///
    /// # Panics
    /// Without rounds.
    pub fn of(rounds: &[Distribution]) -> Self {
        let over = |part: fn(&Distribution) -> f64| median(rounds.iter().map(part).collect());
        let over = |part| to_thousandths(over(part));
        Self { p50_us: over(|d| d.p50_us), p90_us: over(|d| d.p90_us), p99_us: over(|d| d.p99_us) }
    }
}

/// Personal over bare, of the medians of each round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The middle one.
    pub median: f64,
    /// The best.
    pub min: f64,
    /// The worst.
    pub max: f64,
}

impl Ratio {
    /// Pairs each round of the personal network with the same round of bare IPsec.
    ///
    /// # Panics
    /// Without rounds.
    pub fn of(personal: &[Distribution], bare: &[Distribution]) -> Self {
        let pairs = personal.iter().zip(bare);
        let ratios: Vec<f64> = pairs.map(|(p, b)| p.p50_us / b.p50_us).collect();
        let min = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let max = ratios.iter().copied().fold(0.0, f64::max);
        let [median, min, max] = [median(ratios), min, max].map(to_thousandths);
        Self { median, min, max }
    }
}

/// As many digits as a measurement here is worth.
pub(crate) fn to_thousandths(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// The middle of `numbers`, or the mean of the middle two.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len() % 2 == 1 {
        numbers[middle]
    } else {
        f64::midpoint(numbers[middle - 1], numbers[middle])
    }
}

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
    pub ratio_personal_bare: BTreeMap<String, Ratio>,
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
            writeln!(out, "  {:.2} ({:.2}-{:.2})", ratio.median, ratio.min, ratio.max)?;
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
    fn percentiles_are_samples_by_nearest_rank() {
        let d = Distribution::of((1..=200).rev().map(|n| n * 1000).collect());
        assert_eq!((d.count, d.min_us, d.max_us), (200, 1.0, 200.0));
        assert_eq!((d.p50_us, d.p90_us, d.p99_us), (100.0, 180.0, 198.0));
        let one = Distribution::of(vec![1500]);
        assert_eq!((one.min_us, one.p50_us, one.p99_us), (1.5, 1.5, 1.5));
    }

    #[test]
    fn a_ratio_pairs_the_rounds_and_keeps_their_spread() {
        let personal = [round(10.0), round(22.0), round(30.0)];
        let bare = [round(10.0), round(20.0), round(40.0)];
        let ratio = Ratio::of(&personal, &bare);
        assert_eq!((ratio.median, ratio.min, ratio.max), (1.0, 0.75, 1.1));
        assert_eq!(Figures::of(&bare[..2]).p50_us, 15.0);
    }

    #[test]
    fn the_json_has_the_promised_form() {
        let mut report = Report::default();
        report.check("one", true, "seen");
        let figures = Figures::of(&[round(2.0)]);
        report.rtt.base.insert("null+hmac-sha256".into(), figures);
        let ratio = Ratio { median: 1.0, min: 1.0, max: 1.0 };
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
