//! `portspace switch`, `sa`, `policy`: what the switch counts, for people and as JSON.

use std::io::Write as _;

use serde::Serialize;
use switch::control::Client;
use switch::status::{PairStatus, PolicyStatus, SpaceStatus, Status};

use super::listing::{print_json, reasons};
use crate::config::{SpaceName, protocol_name};
use crate::failure::{Outcome, While};
use crate::link;
use crate::paths::Paths;
use crate::table::{Table, count, duration, short};
use crate::verdict::mode;

/// Between the two readings that rates are taken from, nanoseconds.
const INTERVAL_NS: u64 = 250_000_000;

fn failed() -> String {
    "cannot ask the switch".to_owned()
}

fn connect() -> Outcome<Client> {
    link::connect(&Paths::open()?)
}

/// `switch status`: its spaces with their rates, and its loop.
pub(super) fn status(json: bool) -> Outcome<()> {
    let client = connect()?;
    let before = client.overview().or_fail(failed)?;
    if json {
        return print_json(&before);
    }
    std::thread::sleep(std::time::Duration::from_nanos(INTERVAL_NS));
    let status = client.overview().or_fail(failed)?;
    say!(
        "switch   {}, {}, {} sent",
        count(status.attached, "space"),
        count(status.sas, "SA pair"),
        count(status.turns.keepalives, "keepalive")
    );
    let turns = &status.turns;
    say!(
        "loop     {} spins won, {} lost; woken {} times; {} calls received, {} sent; {} packets not taken by the kernel; {} notifications",
        short(turns.spins_won),
        short(turns.spins_lost),
        short(turns.wakeups),
        short(turns.receive_calls),
        short(turns.send_calls),
        short(turns.send_lost),
        short(turns.notifications)
    );
    say!("strays   {}\n", reasons(&status.strays));
    let heads = [
        "SPACE",
        "STATE",
        "PEER",
        "WAY",
        ">SAS",
        ">IN/s",
        ">IN bit/s",
        ">OUT/s",
        ">OUT bit/s",
        ">IN",
        ">OUT",
        ">DROPPED",
        ">WAITS",
    ];
    let mut table = Table::new(heads);
    for space in &status.spaces {
        let earlier = before.spaces.iter().find(|other| other.space == space.space);
        table.row(row(space, earlier, &before, &status));
    }
    if !table.end() {
        say!("no spaces");
    }
    Ok(())
}

fn row(
    space: &SpaceStatus,
    earlier: Option<&SpaceStatus>,
    before: &Status,
    now: &Status,
) -> [String; 13] {
    let rate = |now_is: u64, was: fn(&SpaceStatus) -> u64| {
        let was = earlier.map_or(now_is, was);
        let elapsed_ns = u128::from(now.at_ns.saturating_sub(before.at_ns).max(1));
        let per_s = u128::from(now_is.saturating_sub(was)) * 1_000_000_000 / elapsed_ns;
        u64::try_from(per_s).unwrap_or(u64::MAX)
    };
    let SpaceStatus { received, sent, .. } = space;
    [
        space.space.clone(),
        state(space).to_owned(),
        space.peer.to_string(),
        format!("{} {}", space.encapsulation, mode(space.mode)),
        short(space.sas),
        short(rate(received.packets, |space| space.received.packets)),
        short(rate(received.bytes, |space| space.received.bytes).saturating_mul(8)),
        short(rate(sent.packets, |space| space.sent.packets)),
        short(rate(sent.bytes, |space| space.sent.bytes).saturating_mul(8)),
        short(received.packets),
        short(sent.packets),
        short(space.drops.values().sum()),
        short(space.held),
    ]
}

fn state(space: &SpaceStatus) -> &'static str {
    use switch::status::Machine;
    match (space.machine, space.running) {
        (Machine::Awaited, _) => "unplugged",
        (_, true) => "running",
        (_, false) => "starting",
    }
}

/// `switch metrics`: OpenMetrics text.
pub(super) fn metrics() -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    let mut written = Ok(());
    connect()?
        .metrics(|part| {
            if written.is_ok() {
                written = out.write_all(part.as_bytes());
            }
        })
        .or_fail(failed)?;
    written.and_then(|()| out.flush()).or_fail(|| "cannot write the metrics".to_owned())
}

/// The spaces a listing is of: the one that is named, or all.
fn spaces(client: &Client, name: Option<&SpaceName>) -> Outcome<Vec<String>> {
    match name {
        Some(name) => Ok(vec![name.to_string()]),
        None => {
            let status = client.overview().or_fail(failed)?;
            Ok(status.spaces.into_iter().map(|space| space.space).collect())
        }
    }
}

/// Whether a space may be passed over that has gone since it was listed.
fn went(name: Option<&SpaceName>, result: Result<(), switch::control::Failure>) -> Outcome<()> {
    match result {
        Err(switch::control::Failure::Refused(_)) if name.is_none() => Ok(()),
        result => result.or_fail(failed),
    }
}

/// `sa ls`: every pair of SAs, or those of one space.
pub(super) fn sas(name: Option<&SpaceName>, json: bool) -> Outcome<()> {
    #[derive(Serialize)]
    struct Row<'a> {
        space: &'a str,
        #[serde(flatten)]
        pair: PairStatus,
    }
    let client = connect()?;
    let spaces = spaces(&client, name)?;
    if json {
        let mut list = JsonList::new();
        for space in &spaces {
            went(name, client.each_pair(space, |pair| list.item(&Row { space, pair })))?;
        }
        list.end();
        return Ok(());
    }
    let heads = [
        "SPACE",
        ">PAIR",
        "DIR",
        "SPI",
        "SUITE",
        "ESN",
        ">PACKETS",
        ">BYTES",
        ">SEQUENCE",
        ">WINDOW",
        ">AGE",
        "STATE",
        "DISCARDED",
    ];
    let mut table = Table::new(heads);
    for space in &spaces {
        let listed = client.each_pair(space, |pair| {
            directions(space, &pair).into_iter().for_each(|row| table.row(row));
        });
        went(name, listed)?;
    }
    if !table.end() {
        say!("no SAs");
    }
    Ok(())
}

fn directions(space: &str, pair: &PairStatus) -> [[String; 13]; 2] {
    let PairStatus { index, inbound, outbound } = pair;
    let esn = |esn: bool| if esn { "on" } else { "off" }.to_owned();
    let spi = |spi: u32| format!("{spi:#010x}");
    let age = |age_s: u64| duration(age_s.saturating_mul(1_000_000_000));
    let window = match inbound.window {
        0 => "-".to_owned(),
        size => format!("{}/{size}", inbound.accepted),
    };
    [
        [
            space.to_owned(),
            index.to_string(),
            "in".to_owned(),
            spi(inbound.spi),
            inbound.suite.clone(),
            esn(inbound.esn),
            short(inbound.packets),
            short(inbound.bytes),
            inbound.sequence.to_string(),
            window,
            age(inbound.age_s),
            aged(inbound.state),
            reasons(&inbound.drops),
        ],
        [
            space.to_owned(),
            index.to_string(),
            "out".to_owned(),
            spi(outbound.spi),
            outbound.suite.clone(),
            esn(outbound.esn),
            short(outbound.packets),
            short(outbound.bytes),
            outbound.sequence.to_string(),
            "-".to_owned(),
            age(outbound.age_s),
            aged(outbound.state),
            "-".to_owned(),
        ],
    ]
}

fn aged(age: switch::status::Age) -> String {
    use switch::status::Age;
    match age {
        Age::Fresh => "fresh",
        Age::SoftExpired => "soft expired",
        Age::HardExpired => "hard expired",
    }
    .to_owned()
}

/// `policy ls`: every policy, or those of one space, in the order they are looked at.
pub(super) fn policies(name: Option<&SpaceName>, json: bool) -> Outcome<()> {
    #[derive(Serialize)]
    struct Row<'a> {
        space: &'a str,
        /// From 0; the first that matches decides.
        order: u64,
        #[serde(flatten)]
        policy: PolicyStatus,
    }
    let client = connect()?;
    let spaces = spaces(&client, name)?;
    let mut list = json.then(JsonList::new);
    let heads = [
        "SPACE",
        ">ORDER",
        "ACTION",
        "LOCAL",
        "REMOTE",
        "PROTOCOL",
        "LOCAL PORTS",
        "REMOTE PORTS",
        ">HITS",
    ];
    let mut table = Table::new(heads);
    for space in &spaces {
        let mut order = 0;
        let listed = client.each_policy(space, |policy| {
            match &mut list {
                Some(list) => list.item(&Row { space, order, policy }),
                None => table.row(policy_row(space, order, &policy)),
            }
            order += 1;
        });
        went(name, listed)?;
    }
    match list {
        Some(list) => list.end(),
        None if !table.end() => say!("no policies: everything is discarded"),
        None => {}
    }
    Ok(())
}

fn policy_row(space: &str, order: u64, policy: &PolicyStatus) -> [String; 9] {
    let ports = |ports: Option<[u16; 2]>| match ports {
        None => "any".to_owned(),
        Some([first, last]) if first == last => first.to_string(),
        Some([first, last]) => format!("{first}-{last}"),
    };
    [
        space.to_owned(),
        order.to_string(),
        policy.protect.map_or_else(|| "discard".to_owned(), |pair| format!("protect by {pair}")),
        policy.local.to_string(),
        policy.remote.to_string(),
        policy.protocol.map_or_else(|| "any".to_owned(), protocol_name),
        ports(policy.local_ports),
        ports(policy.remote_ports),
        short(policy.hits),
    ]
}

/// A JSON array that is printed as it grows.
struct JsonList {
    is_empty: bool,
}

impl JsonList {
    fn new() -> Self {
        Self { is_empty: true }
    }

    fn item(&mut self, item: &impl Serialize) {
        let start = if std::mem::replace(&mut self.is_empty, false) { "[" } else { "," };
        let item = serde_json::to_string(item).expect("listings are JSON");
        say!("{start}{item}");
    }

    fn end(self) {
        say!("{}", if self.is_empty { "[]" } else { "]" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_told_in_one_line() {
        let policy = PolicyStatus {
            protect: Some(1),
            local: "10.1.0.5".parse().unwrap(),
            remote: "10.0.0.0/8".parse().unwrap(),
            protocol: Some(6),
            local_ports: None,
            remote_ports: Some([8000, 8100]),
            hits: 12,
        };
        let row = policy_row("red", 0, &policy);
        assert_eq!(row.join(" "), "red 0 protect by 1 10.1.0.5 10.0.0.0/8 tcp any 8000-8100 12");
        let rest = PolicyStatus { protect: None, protocol: Some(89), ..policy };
        assert_eq!(policy_row("red", 1, &rest)[2..6].join(" "), "discard 10.1.0.5 10.0.0.0/8 89");
    }
}
