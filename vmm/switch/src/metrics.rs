//! Every counter as OpenMetrics text (openmetrics.io, version 1.0), a part at a time.
//!
//! A family's samples may not be mixed with another's: parts go on within the
//! family they ended in, and put one after the other they are one text.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::overlay::Mode;
use crate::status::{Age, Counts, PairStatus, PolicyStatus, SpaceStatus, Status};

/// A part ends with the first sample behind so many bytes of text.
const PART: usize = 32 * 1024;

/// Where a part of the text begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    family: usize,
    place: u64,
    item: u64,
}

/// What is counted: read while the text is written, so that nothing is copied beforehand.
pub trait Source {
    /// The switch itself; spaces are not looked at.
    fn status(&self) -> Status;

    /// The first space at `place` or behind, without SAs and policies, and its place.
    fn space(&self, place: u64) -> Option<(u64, SpaceStatus)>;

    /// A pair of SAs of the space at `place`.
    fn pair(&self, place: u64, index: u64) -> Option<PairStatus>;

    /// A policy of the space at `place`.
    fn policy(&self, place: u64, index: u64) -> Option<PolicyStatus>;
}

/// The part of the text that begins at `from`, and where the next begins; the last one ends with
/// `# EOF`.
pub fn part(source: &impl Source, from: Cursor) -> (String, Option<Cursor>) {
    let mut text = String::with_capacity(PART + 1024);
    let mut at = from;
    while let Some(family) = FAMILIES.get(at.family) {
        if (at.place, at.item) == (0, 0) {
            family.header(&mut text).expect("a String takes every write");
        }
        if !go_on(source, family, &mut at, &mut text) {
            return (text, Some(at));
        }
        at = Cursor { family: at.family + 1, ..Cursor::default() };
        if text.len() >= PART {
            return (text, Some(at));
        }
    }
    text.push_str("# EOF\n");
    (text, None)
}

/// Writes samples of a family from `at` on; false if there may be more.
fn go_on(source: &impl Source, family: &Family, at: &mut Cursor, text: &mut String) -> bool {
    let mut samples = Samples { family, text };
    match family.of {
        Of::Switch(write) => write(&source.status(), &mut samples),
        Of::Space(write) => {
            while let Some((place, space)) = source.space(at.place) {
                write(&space, &mut samples);
                at.place = place + 1;
                if samples.text.len() >= PART {
                    return false;
                }
            }
        }
        Of::Pair(write) => {
            return items(at, source, text, |at, space, text| {
                let pair = source.pair(at.place, at.item)?;
                write(space, &pair, &mut Samples { family, text });
                Some(())
            });
        }
        Of::Policy(write) => {
            return items(at, source, text, |at, space, text| {
                let policy = source.policy(at.place, at.item)?;
                write(space, at.item, &policy, &mut Samples { family, text });
                Some(())
            });
        }
    }
    true
}

/// Lets `write` write each item of each space; false if the text is long before the last one.
fn items(
    at: &mut Cursor,
    source: &impl Source,
    text: &mut String,
    mut write: impl FnMut(&Cursor, &SpaceStatus, &mut String) -> Option<()>,
) -> bool {
    while let Some((place, space)) = source.space(at.place) {
        if place != at.place {
            (at.place, at.item) = (place, 0);
        }
        while write(at, &space, text).is_some() {
            at.item += 1;
            if text.len() >= PART {
                return false;
            }
        }
        (at.place, at.item) = (place + 1, 0);
    }
    true
}

/// How the values of a family are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Info,
    StateSet,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Info => "info",
            Kind::StateSet => "stateset",
        }
    }

    /// What the names of its samples end with.
    fn suffix(self) -> &'static str {
        match self {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::StateSet => "",
        }
    }
}

/// What the samples of a family are about.
enum Of {
    Switch(fn(&Status, &mut Samples<'_>)),
    Space(fn(&SpaceStatus, &mut Samples<'_>)),
    Pair(fn(&SpaceStatus, &PairStatus, &mut Samples<'_>)),
    Policy(fn(&SpaceStatus, u64, &PolicyStatus, &mut Samples<'_>)),
}

/// One metric, with labels.
struct Family {
    name: &'static str,
    kind: Kind,
    /// The end of the name, if it is a unit.
    unit: Option<&'static str>,
    help: &'static str,
    of: Of,
}

const fn family(kind: Kind, name: &'static str, help: &'static str, of: Of) -> Family {
    Family { name, kind, unit: None, help, of }
}

impl Family {
    const fn in_unit(self, unit: &'static str) -> Family {
        Family { unit: Some(unit), ..self }
    }

    fn header(&self, text: &mut String) -> std::fmt::Result {
        let Family { name, kind, unit, help, .. } = self;
        writeln!(text, "# TYPE {name} {}", kind.name())?;
        if let Some(unit) = unit {
            writeln!(text, "# UNIT {name} {unit}")?;
        }
        writeln!(text, "# HELP {name} {help}")
    }
}

/// Every metric, in the order of the text.
static FAMILIES: [Family; 26] = {
    use Kind::{Counter, Gauge, Info, StateSet};
    [
        family(
            Gauge,
            "portspace_spaces",
            "Spaces attached.",
            Of::Switch(|s, out| {
                out.add(&[], s.attached);
            }),
        ),
        family(Gauge, "portspace_sas", "Pairs of SAs.", Of::Switch(|s, out| out.add(&[], s.sas))),
        family(
            Counter,
            "portspace_stray_packets",
            "Packets from outside that belonged to no space.",
            Of::Switch(|s, out| out.by_reason(&[], &s.strays)),
        ),
        family(
            Counter,
            "portspace_loop_spins",
            "Spins of the loop.",
            Of::Switch(|s, out| {
                out.add(&[("end", "work")], s.turns.spins_won);
                out.add(&[("end", "sleep")], s.turns.spins_lost);
            }),
        ),
        family(
            Counter,
            "portspace_loop_wakeups",
            "Times the loop slept and was woken.",
            Of::Switch(|s, out| out.add(&[], s.turns.wakeups)),
        ),
        family(
            Counter,
            "portspace_socket_calls",
            "System calls that moved packets.",
            Of::Switch(|s, out| {
                out.add(&[("direction", "in")], s.turns.receive_calls);
                out.add(&[("direction", "out")], s.turns.send_calls);
            }),
        ),
        family(
            Counter,
            "portspace_unsent_packets",
            "Packets the kernel did not take.",
            Of::Switch(|s, out| out.add(&[], s.turns.send_lost)),
        ),
        family(
            Counter,
            "portspace_guest_notifications",
            "Notifications sent to guests.",
            Of::Switch(|s, out| out.add(&[], s.turns.notifications)),
        ),
        family(
            Counter,
            "portspace_keepalives",
            "NAT keepalives sent.",
            Of::Switch(|s, out| out.add(&[], s.turns.keepalives)),
        ),
        family(Info, "portspace_space", "How a space is bound.", Of::Space(bound)),
        family(
            Gauge,
            "portspace_space_running",
            "Whether the guest's driver runs its queues.",
            Of::Space(|s, out| out.add(&[("space", &s.space)], s.running.into())),
        ),
        family(
            Gauge,
            "portspace_space_mtu_bytes",
            "The longest IP packet that fits the SAs.",
            Of::Space(|s, out| out.add(&[("space", &s.space)], s.mtu.into())),
        )
        .in_unit("bytes"),
        family(
            Gauge,
            "portspace_path_mtu_bytes",
            "The longest outer packet on the way to the peer.",
            Of::Space(|s, out| out.add(&[("space", &s.space)], s.path_mtu.into())),
        )
        .in_unit("bytes"),
        family(
            Counter,
            "portspace_space_packets",
            "Packets of a space that came and went.",
            Of::Space(|s, out| {
                out.add(&[("space", &s.space), ("direction", "in")], s.received.packets);
                out.add(&[("space", &s.space), ("direction", "out")], s.sent.packets);
            }),
        ),
        family(
            Counter,
            "portspace_space_bytes",
            "Bytes of these packets.",
            Of::Space(|s, out| {
                out.add(&[("space", &s.space), ("direction", "in")], s.received.bytes);
                out.add(&[("space", &s.space), ("direction", "out")], s.sent.bytes);
            }),
        )
        .in_unit("bytes"),
        family(
            Counter,
            "portspace_space_dropped_packets",
            "Packets of a space that were dropped outside of its SAs.",
            Of::Space(|s, out| out.by_reason(&[("space", &s.space)], &s.drops)),
        ),
        family(
            Counter,
            "portspace_space_waits",
            "Times a space was made to wait for its limits.",
            Of::Space(|s, out| out.add(&[("space", &s.space)], s.held)),
        ),
        family(Info, "portspace_sa", "How an SA protects its packets.", Of::Pair(protected)),
        family(
            Counter,
            "portspace_sa_packets",
            "Packets opened and sealed.",
            Of::Pair(|s, pair, out| each(s, pair, out, |sa| sa.packets)),
        ),
        family(
            Counter,
            "portspace_sa_bytes",
            "Payload bytes in them.",
            Of::Pair(|s, pair, out| each(s, pair, out, |sa| sa.bytes)),
        )
        .in_unit("bytes"),
        family(
            Counter,
            "portspace_sa_discarded_packets",
            "Packets with the SPI of an SA that were discarded.",
            Of::Pair(|s, pair, out| {
                let [inbound, _] = Sa::both(pair);
                out.by_reason(&inbound.labels(s), &pair.inbound.drops);
            }),
        ),
        family(
            Gauge,
            "portspace_sa_sequence",
            "The highest sequence number.",
            Of::Pair(|s, pair, out| each(s, pair, out, |sa| sa.sequence)),
        ),
        family(
            Gauge,
            "portspace_sa_window_accepted",
            "Sequence numbers in the replay window that came.",
            Of::Pair(|s, pair, out| {
                let [inbound, _] = Sa::both(pair);
                out.add(&inbound.labels(s), pair.inbound.accepted.into());
            }),
        ),
        family(
            Gauge,
            "portspace_sa_age_seconds",
            "Since it was added.",
            Of::Pair(|s, pair, out| each(s, pair, out, |sa| sa.age_s)),
        )
        .in_unit("seconds"),
        family(
            StateSet,
            "portspace_sa_state",
            "How far an SA has come in its lifetime.",
            Of::Pair(aged),
        ),
        family(
            Counter,
            "portspace_policy_packets",
            "Packets a policy decided about.",
            Of::Policy(|s, index, policy, out| {
                let action = if policy.protect.is_some() { "protect" } else { "discard" };
                let index = index.to_string();
                let labels = [("space", &s.space[..]), ("policy", &index), ("action", action)];
                out.add(&labels, policy.hits);
            }),
        ),
    ]
};

fn bound(space: &SpaceStatus, out: &mut Samples<'_>) {
    let mode = match space.mode {
        Mode::Transport => "transport",
        Mode::Tunnel => "tunnel",
    };
    let (local, peer) = (space.local.to_string(), space.peer.to_string());
    out.add(
        &[
            ("space", &space.space),
            ("local", &local),
            ("peer", &peer),
            ("encapsulation", &space.encapsulation),
            ("mode", mode),
        ],
        1,
    );
}

/// One direction of a pair.
struct Sa<'a> {
    spi: String,
    direction: &'static str,
    suite: &'a str,
    esn: bool,
    packets: u64,
    bytes: u64,
    sequence: u64,
    age_s: u64,
    state: Age,
}

impl<'a> Sa<'a> {
    fn both(PairStatus { inbound, outbound, .. }: &'a PairStatus) -> [Sa<'a>; 2] {
        [
            Sa {
                spi: format!("{:#010x}", inbound.spi),
                direction: "in",
                suite: &inbound.suite,
                esn: inbound.esn,
                packets: inbound.packets,
                bytes: inbound.bytes,
                sequence: inbound.sequence,
                age_s: inbound.age_s,
                state: inbound.state,
            },
            Sa {
                spi: format!("{:#010x}", outbound.spi),
                direction: "out",
                suite: &outbound.suite,
                esn: outbound.esn,
                packets: outbound.packets,
                bytes: outbound.bytes,
                sequence: outbound.sequence,
                age_s: outbound.age_s,
                state: outbound.state,
            },
        ]
    }

    fn labels<'l>(&'l self, space: &'l SpaceStatus) -> [(&'static str, &'l str); 3] {
        [("space", &space.space), ("spi", &self.spi), ("direction", self.direction)]
    }
}

fn each(space: &SpaceStatus, pair: &PairStatus, out: &mut Samples<'_>, value: fn(&Sa<'_>) -> u64) {
    for sa in Sa::both(pair) {
        out.add(&sa.labels(space), value(&sa));
    }
}

fn protected(space: &SpaceStatus, pair: &PairStatus, out: &mut Samples<'_>) {
    for sa in Sa::both(pair) {
        let [name, spi, direction] = sa.labels(space);
        let esn = if sa.esn { "on" } else { "off" };
        out.add(&[name, spi, direction, ("suite", sa.suite), ("esn", esn)], 1);
    }
}

fn aged(space: &SpaceStatus, pair: &PairStatus, out: &mut Samples<'_>) {
    for sa in Sa::both(pair) {
        let [name, spi, direction] = sa.labels(space);
        for (state, words) in [
            (Age::Fresh, "fresh"),
            (Age::SoftExpired, "soft_expired"),
            (Age::HardExpired, "hard_expired"),
        ] {
            // A state set's states are values of a label of its own name.
            let labels = [name, spi, direction, ("portspace_sa_state", words)];
            out.add(&labels, (sa.state == state).into());
        }
    }
}

/// Where the samples of a family are written to.
struct Samples<'a> {
    family: &'a Family,
    text: &'a mut String,
}

impl Samples<'_> {
    fn add(&mut self, labels: &[(&str, &str)], value: u64) {
        self.text.push_str(self.family.name);
        self.text.push_str(self.family.kind.suffix());
        for (at, (name, value)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            value.chars().for_each(|letter| escape(letter, self.text));
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        writeln!(self.text, " {value}").expect("a String takes every write");
    }

    fn by_reason(&mut self, labels: &[(&str, &str)], counts: &Counts) {
        for (reason, count) in counts {
            let labels = [labels, &[("reason", reason)]].concat();
            self.add(&labels, *count);
        }
    }
}

/// Writes a letter of a label's value.
fn escape(letter: char, text: &mut String) {
    match letter {
        '\\' => text.push_str("\\\\"),
        '"' => text.push_str("\\\""),
        '\n' => text.push_str("\\n"),
        letter => text.push(letter),
    }
}

#[cfg(test)]
pub(crate) mod tests;
