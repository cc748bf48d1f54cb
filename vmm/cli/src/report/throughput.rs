//! How much goes through each way, and against what others reach.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{Figures, Spread};

/// One measurement, as every sender prints it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct Sent {
    /// Payload that arrived, over the time of sending.
    pub bits_per_s: f64,
    /// How long was sent.
    pub seconds: f64,
    /// Over UDP: datagrams sent.
    #[serde(default)]
    pub packets: u64,
    /// Over UDP: datagrams that arrived.
    #[serde(default)]
    pub received: u64,
}

/// All of a `bench throughput`; its JSON, which stays stable.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Throughput {
    /// By algorithm, transport and direction.
    pub rows: Vec<Row>,
    /// The same job done by strongSwan in user space.
    pub strongswan: Option<Strongswan>,
}

/// One algorithm, one transport, one direction.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The algorithm.
    pub suite: String,
    /// What is sent, by whom.
    #[serde(flatten)]
    pub stream: Stream,
    /// No IPsec.
    pub base: Rate,
    /// TUN and ESP on both ends.
    pub bare: Rate,
    /// A guest on A, bare IPsec on its peer.
    pub personal: Rate,
    /// Personal over bare, round by round.
    pub ratio_personal_bare: Spread,
}

/// What is sent, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stream {
    /// Over what.
    pub transport: Transport,
    /// From where, seen from A.
    pub direction: Direction,
}

/// Over what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// One connection.
    Tcp,
    /// Datagrams, as fast as the sender can.
    Udp,
}

/// From where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// A, or the space on it, sends.
    Send,
    /// A, or the space on it, receives.
    Receive,
}

impl Stream {
    /// Every one.
    pub const ALL: [Self; 4] = [
        Self { transport: Transport::Tcp, direction: Direction::Send },
        Self { transport: Transport::Tcp, direction: Direction::Receive },
        Self { transport: Transport::Udp, direction: Direction::Send },
        Self { transport: Transport::Udp, direction: Direction::Receive },
    ];

    /// As tables write it.
    pub fn name(self) -> &'static str {
        match (self.transport, self.direction) {
            (Transport::Tcp, Direction::Send) => "TCP out",
            (Transport::Tcp, Direction::Receive) => "TCP in",
            (Transport::Udp, Direction::Send) => "UDP out",
            (Transport::Udp, Direction::Receive) => "UDP in",
        }
    }
}

/// What arrived over the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    /// Payload.
    pub mbit_per_s: Spread,
    /// Of UDP, datagrams.
    pub packets_per_s: Option<Spread>,
    /// Of UDP, the part that did not arrive, from 0 to 1.
    pub lost: Option<Spread>,
}

impl Rate {
    /// Of the rounds of one cell.
    ///
    /// # Panics
    /// Without rounds.
    pub fn of(rounds: &[Sent], transport: Transport) -> Self {
        let over =
            |part: fn(&Sent) -> f64| Spread::of(&rounds.iter().map(part).collect::<Vec<_>>());
        let udp = transport == Transport::Udp;
        Self {
            mbit_per_s: over(|sent| sent.bits_per_s / 1e6),
            packets_per_s: udp.then(|| over(|sent| sent.received as f64 / sent.seconds.max(1e-6))),
            lost: udp.then(|| over(Sent::lost)),
        }
    }
}

impl Sent {
    /// The part of the datagrams that did not arrive.
    fn lost(&self) -> f64 {
        let lost = self.packets.saturating_sub(self.received);
        lost as f64 / self.packets.max(1) as f64
    }

    /// `figures` over `base`, round by round.
    ///
    /// # Panics
    /// Without rounds.
    pub fn ratios(figures: &[Self], base: &[Self]) -> Spread {
        let rates = |rounds: &[Self]| rounds.iter().map(|sent| sent.bits_per_s).collect::<Vec<_>>();
        Spread::of_ratios(&rates(figures), &rates(base))
    }
}

/// strongSwan's ESP in user space (charon with kernel-libipsec), in the same run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strongswan {
    /// Why it was not measured.
    Missing(String),
    /// What it came to.
    Measured(Box<Against>),
}

/// The ways against strongSwan's.
#[derive(Clone, Debug, Serialize)]
pub struct Against {
    /// The algorithm of all.
    pub suite: String,
    /// No IPsec, strongSwan, bare IPsec, a personal network: round trips and TCP outward.
    pub ways: Vec<Contender>,
    /// TCP, personal over strongSwan, round by round.
    pub ratio_tcp: Spread,
    /// What personal adds to base's round trip over what strongSwan adds, round by round.
    pub ratio_added: Spread,
}

/// One way against others.
#[derive(Clone, Debug, Serialize)]
pub struct Contender {
    /// Which way.
    pub way: &'static str,
    /// TCP round trips of 1 byte.
    pub rtt: Figures,
    /// TCP outward.
    pub tcp_mbit_per_s: Spread,
}

impl Throughput {
    /// The tables for a person.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a String takes every write");
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\nThroughput, Mbit/s of payload     {:>9} {:>9} {:>9}  personal / bare",
            "base", "bare", "personal"
        )?;
        for row in &self.rows {
            let [base, bare, personal] =
                [row.base, row.bare, row.personal].map(|rate| rate.mbit_per_s.median);
            let (ratio, name) = (row.ratio_personal_bare.text(), row.stream.name());
            writeln!(
                out,
                "{:<24} {name:<8} {base:>9.0} {bare:>9.0} {personal:>9.0}  {ratio}",
                row.suite
            )?;
        }
        writeln!(out, "\nUDP, thousand datagrams/s arrived (per cent lost)")?;
        for row in self.rows.iter().filter(|row| row.base.lost.is_some()) {
            write!(out, "{:<24} {:<8}", row.suite, row.stream.name())?;
            for rate in [row.base, row.bare, row.personal] {
                let (Some(packets), Some(lost)) = (rate.packets_per_s, rate.lost) else { continue };
                write!(out, " {:>7.0} ({:>4.1})", packets.median / 1e3, 100.0 * lost.median)?;
            }
            writeln!(out)?;
        }
        match &self.strongswan {
            None => Ok(()),
            Some(Strongswan::Missing(why)) => writeln!(out, "\nstrongSwan: not measured: {why}"),
            Some(Strongswan::Measured(against)) => against.write(out),
        }
    }
}

impl Against {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        let heads = format!("{:>7} {:>7} {:>7}", "p50", "p90", "p99");
        writeln!(out, "\nAgainst strongSwan in user space ({})", self.suite)?;
        writeln!(out, "{:<20}  {heads} µs  TCP out, Mbit/s", "round trip of 1 byte")?;
        for Contender { way, rtt, tcp_mbit_per_s } in &self.ways {
            let Figures { p50_us, p90_us, p99_us } = rtt;
            let rtt = format!("{p50_us:>7.1} {p90_us:>7.1} {p99_us:>7.1}");
            writeln!(out, "{way:<20}  {rtt}     {:>9.0}", tcp_mbit_per_s.median)?;
        }
        writeln!(out, "TCP, personal / strongSwan: {}", self.ratio_tcp.text())?;
        writeln!(out, "added round trip, personal / strongSwan: {}", self.ratio_added.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(bits_per_s: f64) -> Sent {
        Sent { bits_per_s, seconds: 0.5, packets: 1000, received: 900 }
    }

    fn row(stream: Stream) -> Row {
        let (bare, personal) = ([sent(2e9), sent(4e9)], [sent(1e9), sent(4e9)]);
        let rate = |rounds: &[Sent]| Rate::of(rounds, stream.transport);
        let [base, bare_rate, personal_rate] = [&[sent(9e9); 2], &bare, &personal].map(|r| rate(r));
        Row {
            suite: "aes-gcm-256".into(),
            stream,
            base,
            bare: bare_rate,
            personal: personal_rate,
            ratio_personal_bare: Sent::ratios(&personal, &bare),
        }
    }

    #[test]
    fn only_udp_loses_and_the_ratio_is_of_the_same_rounds() {
        let throughput = Throughput { rows: Stream::ALL.map(row).to_vec(), strongswan: None };
        let json = serde_json::to_value(&throughput).unwrap();
        let (tcp, udp) = (&json["rows"][0], &json["rows"][2]);
        assert_eq!((&tcp["transport"], &tcp["direction"]), (&"tcp".into(), &"send".into()));
        assert!(tcp["bare"]["lost"].is_null());
        assert_eq!(udp["bare"]["lost"]["median"], 0.1);
        assert_eq!(udp["bare"]["packets_per_s"]["median"], 1800.0);
        assert_eq!(tcp["ratio_personal_bare"]["median"], 0.75);
        let text = throughput.text();
        assert_eq!(text.matches("TCP in").count(), 1, "{text}");
        assert_eq!(text.matches("UDP in").count(), 2, "{text}");
    }

    #[test]
    fn what_a_sender_prints_is_read_with_and_without_datagrams() {
        let tcp: Sent =
            serde_json::from_str(r#"{"bytes":1,"seconds":0.5,"bits_per_s":16}"#).unwrap();
        assert_eq!((tcp.bits_per_s, tcp.packets, tcp.lost()), (16.0, 0, 0.0));
        let udp = r#"{"bytes":1,"seconds":1.0,"bits_per_s":8,"packets":4,"received":3,"lost":1,"late":0}"#;
        let udp: Sent = serde_json::from_str(udp).unwrap();
        assert_eq!(udp.lost(), 0.25);
    }

    #[test]
    fn a_missing_strongswan_is_said_with_its_reason() {
        let strongswan = Some(Strongswan::Missing("charon is not installed".into()));
        let throughput = Throughput { rows: Vec::new(), strongswan };
        assert!(throughput.text().contains("not measured: charon is not installed"));
        let json = serde_json::to_value(&throughput).unwrap();
        assert_eq!(json["strongswan"]["missing"], "charon is not installed");
    }
}
