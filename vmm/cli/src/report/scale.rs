//! What grows with the number of SAs and of spaces, and what stays.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Figures, Spread};

/// All of a `bench scale`; its JSON, which stays stable.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Scale {
    /// The algorithm of every SA.
    pub suite: String,
    /// In one process, without sockets.
    pub lookup: Vec<Lookup>,
    /// One busy space while the switch holds further SAs.
    pub sas: Vec<Sas>,
    /// One busy space while others run beside it.
    pub spaces: Vec<Spaces>,
}

/// A SAD of a size.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Lookup {
    /// Inbound SAs in it.
    pub sas: u64,
    /// Finding the SA of one busy SPI, ns.
    pub busy_ns: Spread,
    /// Finding every SA in turn, ns: the memory's time, not the table's.
    pub each_ns: Spread,
    /// Sealing a packet, finding the other end's SA, and opening it, ns.
    pub packet_ns: Spread,
    /// `packet_ns` over that of the smallest SAD, round by round.
    pub growth: Spread,
}

/// A switch that holds this many pairs of SAs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sas {
    /// How many were wanted.
    pub wanted: u64,
    /// How many it held.
    pub pairs: u64,
    /// Round trips of the busy space.
    pub rtt: Figures,
    /// The median over that with the fewest, round by round.
    pub growth: Spread,
    /// Memory of the switch when it held so many first, KiB.
    pub switch_kib: u64,
}

/// This many running spaces.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spaces {
    /// How many, the busy one included.
    pub spaces: u64,
    /// Round trips of the busy one.
    pub rtt: Figures,
    /// The median over that with the fewest, round by round.
    pub growth: Spread,
    /// Memory of the switch, KiB.
    pub switch_kib: u64,
    /// Memory of the VM process of one that was added, its share of what it shares, KiB.
    pub vm_pss_kib: u64,
    /// Of that, memory the guest has touched, KiB.
    pub guest_kib: u64,
    /// Start of one that was added, from the start of its VM process until programs can be run, ms.
    pub ready_ms: f64,
}

impl Scale {
    /// The tables for a person.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a String takes every write");
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\nIn one process, ns ({})", self.suite)?;
        writeln!(
            out,
            "{:>10}  {:>14} {:>14} {:>21}  growth, median (min-max)",
            "SAs", "lookup, busy", "lookup, each", "1400 B seal and open"
        )?;
        for row in &self.lookup {
            let [busy, each, packet] = [row.busy_ns, row.each_ns, row.packet_ns].map(|s| s.median);
            let growth = row.growth.text();
            writeln!(out, "{:>10}  {busy:>14.1} {each:>14.1} {packet:>21.0}  {growth}", row.sas)?;
        }
        let heads = format!("{:>7} {:>7} {:>7}", "p50", "p90", "p99");
        writeln!(out, "\nTCP round trip of 1 byte of one busy space, µs")?;
        writeln!(
            out,
            "{:>10}  {heads}  {:<24}  switch KiB",
            "SA pairs", "growth, median (min-max)"
        )?;
        for row in &self.sas {
            let (rtt, growth) = (figures(&row.rtt), row.growth.text());
            write!(out, "{:>10}  {rtt}  {growth:<24}  {:>10}", row.pairs, row.switch_kib)?;
            let short = format!("  ({} wanted: the switch took no more)", row.wanted);
            writeln!(out, "{}", if row.pairs < row.wanted { &short } else { "" })?;
        }
        writeln!(
            out,
            "\n{:>10}  {heads}  {:<24}  switch KiB  VM KiB (guest)  ready ms",
            "spaces", "growth, median (min-max)"
        )?;
        for row in &self.spaces {
            let (rtt, growth) = (figures(&row.rtt), row.growth.text());
            let vm = format!("{} ({})", row.vm_pss_kib, row.guest_kib);
            writeln!(
                out,
                "{:>10}  {rtt}  {growth:<24}  {:>10}  {vm:>14}  {:>8.1}",
                row.spaces, row.switch_kib, row.ready_ms
            )?;
        }
        Ok(())
    }
}

fn figures(rtt: &Figures) -> String {
    format!("{:>7.1} {:>7.1} {:>7.1}", rtt.p50_us, rtt.p90_us, rtt.p99_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_that_took_fewer_than_wanted_is_shown_as_that() {
        let one = Spread { median: 1.0, min: 1.0, max: 1.0 };
        let rtt = Figures { p50_us: 26.0, p90_us: 27.0, p99_us: 40.0 };
        let row = |wanted, pairs| Sas { wanted, pairs, rtt, growth: one, switch_kib: 9 };
        let sas = vec![row(1, 1), row(1_000_000, 250_000)];
        let scale = Scale { suite: "null".into(), sas, ..Scale::default() };
        let text = scale.text();
        assert_eq!(text.matches("wanted").count(), 1);
        assert!(text.contains("250000") && text.contains("1000000 wanted"), "{text}");
        let json = serde_json::to_value(&scale).unwrap();
        assert_eq!(
            (&json["sas"][1]["pairs"], &json["sas"][0]["wanted"]),
            (&250_000.into(), &1.into())
        );
    }
}
