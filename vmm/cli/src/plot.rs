//! The benches' results as SVG: one look tells what the table says.

mod bars;
mod canvas;
mod lines;

use plotters::style::RGBColor;

use crate::report::{self, DataPlane, Report, Scale, Spread, Throughput};
use bars::{Bar, Bars, Group, Panel};
use lines::{Line, Lines};

/// Colours that stay apart in print and for most eyes (Okabe and Ito, 2008).
const GREY: RGBColor = RGBColor(0x9a, 0x9a, 0x9a);
const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
const RED: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
const ORANGE: RGBColor = RGBColor(0xe6, 0x9f, 0x00);

/// The ways in the order of the tables, and their colours.
fn ways() -> Vec<(String, RGBColor)> {
    let ways = [("base (no IPsec)", GREY), ("bare IPsec", BLUE), ("personal network", ORANGE)];
    ways.map(|(name, colour)| (name.to_owned(), colour)).to_vec()
}

/// The round-trip table.
pub(crate) fn round_trips(report: &Report) -> String {
    let rtt = &report.rtt;
    let group = |suite: &String| {
        let ratio = report.ratio_personal_bare[suite];
        let bars = [&rtt.base, &rtt.bare, &rtt.personal].map(|way| {
            way.get(suite).map(|figures| Bar {
                value: figures.p50_us,
                whisker: [figures.p50_us, figures.p90_us],
            })
        });
        let note = format!("personal / bare {}", ratio.text());
        Group { name: suite.clone(), note, bars: bars.to_vec() }
    };
    let groups = report.ratio_personal_bare.keys().map(group).collect();
    Bars {
        title: "TCP round trip of 1 byte".to_owned(),
        axis: "µs, p50 (whisker: p90)".to_owned(),
        ways: ways(),
        panels: vec![Panel { title: String::new(), groups }],
        columns: 1,
    }
    .svg()
}

/// The table of `bench throughput`.
pub(crate) fn throughput(report: &Throughput) -> String {
    let bar = |rate: &report::Rate| {
        let Spread { median, min, max } = rate.mbit_per_s;
        Some(Bar { value: median / 1e3, whisker: [min / 1e3, max / 1e3] })
    };
    let panel = |stream: report::Stream| {
        let rows = report.rows.iter().filter(|row| row.stream == stream);
        let group = |row: &report::Row| Group {
            name: row.suite.clone(),
            note: format!("personal / bare {}", row.ratio_personal_bare.text()),
            bars: [&row.base, &row.bare, &row.personal].map(bar).to_vec(),
        };
        Panel { title: stream.name().to_owned(), groups: rows.map(group).collect() }
    };
    Bars {
        title: "Throughput".to_owned(),
        axis: "Gbit/s of payload (whisker: min, max)".to_owned(),
        ways: ways(),
        panels: report::Stream::ALL.map(panel).into(),
        columns: 2,
    }
    .svg()
}

/// The table against strongSwan.
pub(crate) fn against(report: &report::Against) -> String {
    let panel = |title: &str, note: String, bar: fn(&report::Contender) -> Bar| {
        let bars = report.ways.iter().map(|way| Some(bar(way))).collect();
        let groups = vec![Group { name: report.suite.clone(), note, bars }];
        Panel { title: title.to_owned(), groups }
    };
    let colours = [GREY, RED, BLUE, ORANGE];
    let names = report.ways.iter().map(|way| way.way.to_owned());
    let tcp = |way: &report::Contender| {
        let Spread { median, min, max } = way.tcp_mbit_per_s;
        Bar { value: median / 1e3, whisker: [min / 1e3, max / 1e3] }
    };
    let rtt = |way: &report::Contender| Bar {
        value: way.rtt.p50_us,
        whisker: [way.rtt.p50_us, way.rtt.p90_us],
    };
    Bars {
        title: "Against strongSwan's ESP in user space".to_owned(),
        axis: String::new(),
        ways: names.zip(colours).collect(),
        panels: vec![
            panel(
                "TCP out, Gbit/s of payload (whisker: min, max)",
                format!("personal / strongSwan {}", report.ratio_tcp.text()),
                tcp,
            ),
            panel(
                "TCP round trip of 1 byte, µs, p50 (whisker: p90)",
                format!("added over base, personal / strongSwan {}", report.ratio_added.text()),
                rtt,
            ),
        ],
        columns: 2,
    }
    .svg()
}

/// The table of `bench dataplane`.
pub(crate) fn data_plane(report: &DataPlane) -> String {
    let group = |path: &report::Path| Group {
        name: path.name.to_owned(),
        note: format!("{:.2} ×", path.ratio.median),
        bars: vec![Some(Bar { value: path.ns.median, whisker: [path.ns.min, path.ns.max] })],
    };
    Bars {
        title: format!("A packet of {} bytes without sockets", report.sealed_bytes),
        axis: "ns (whisker: min, max)".to_owned(),
        ways: vec![(report.suite.to_owned(), ORANGE)],
        panels: vec![Panel {
            title: String::new(),
            groups: report.paths.iter().map(group).collect(),
        }],
        columns: 1,
    }
    .svg()
}

/// The tables of `bench scale`.
pub(crate) fn scale(scale: &Scale) -> String {
    let sas = |part: fn(&report::Lookup) -> f64| -> Vec<(f64, f64)> {
        scale.lookup.iter().map(|row| (row.sas as f64, part(row))).collect()
    };
    let spaces = |part: fn(&report::Spaces) -> f64| -> Vec<(f64, f64)> {
        scale.spaces.iter().map(|row| (row.spaces as f64, part(row))).collect()
    };
    let rtt = |part: fn(&report::Sas) -> f64| -> Vec<(f64, f64)> {
        scale.sas.iter().map(|row| (row.pairs as f64, part(row))).collect()
    };
    let line = |name: &str, colour, points| Line { name: name.to_owned(), colour, points };
    let panel = |title: &str, across, axis, lines, flat| lines::Panel {
        title: title.to_owned(),
        across,
        axis,
        lines,
        flat,
    };
    let p50 = [line("p50", ORANGE, rtt(|row| row.rtt.p50_us))];
    let beside = [line("p50", ORANGE, spaces(|row| row.rtt.p50_us))];
    let busy = [line("busy", ORANGE, sas(|row| row.busy_ns.median))];
    let each = [line("each", GREY, sas(|row| row.each_ns.median))];
    let packet = [line("seal, find, open", ORANGE, sas(|row| row.packet_ns.median))];
    let memory = [
        line("VM process, guest included", BLUE, spaces(|row| mib(row.vm_pss_kib))),
        line("of that, the guest", ORANGE, spaces(|row| mib(row.guest_kib))),
    ];
    let switch = [line("switch", BLUE, spaces(|row| mib(row.switch_kib)))];
    let ready = [line("until programs run", BLUE, spaces(|row| row.ready_ms))];
    let flat = Some(0.05);
    Lines {
        title: format!("One busy among many ({}; bands: within 5 %)", scale.suite),
        panels: vec![
            panel("One busy SA found by its SPI", "inbound SAs", "ns", busy.into(), flat),
            panel("Every SA found in turn", "inbound SAs", "ns", each.into(), None),
            panel("1400 bytes sealed, SA found, opened", "inbound SAs", "ns", packet.into(), flat),
            panel("Round trip of 1 byte", "SA pairs in the switch", "µs, p50", p50.into(), flat),
            panel("Round trip of 1 byte", "running spaces", "µs, p50", beside.into(), flat),
            panel(
                "Start of one more, until programs run",
                "running spaces",
                "ms",
                ready.into(),
                None,
            ),
            panel("Memory of one more", "running spaces", "MiB", memory.into(), None),
            panel("Memory of the switch", "running spaces", "MiB", switch.into(), None),
        ],
        columns: 4,
    }
    .svg()
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
