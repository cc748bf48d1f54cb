//! The benches' results as SVG: one look tells what the table says.

mod bars;
mod canvas;

use plotters::style::RGBColor;

use crate::report::Report;
use bars::{Bar, Bars, Group, Panel};

/// Colours that stay apart in print and for most eyes (Okabe and Ito, 2008).
const GREY: RGBColor = RGBColor(0x9a, 0x9a, 0x9a);
const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
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
