//! Bars side by side in groups: one group per algorithm, one bar per way.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::canvas::{self, Area, FAINT, INK, bold, font, round_up};

/// A figure with panels of the same bars.
pub(super) struct Bars {
    pub(super) title: String,
    /// What the bars show, with its unit, and what the whiskers show.
    pub(super) axis: String,
    /// Name and colour of each bar of a group.
    pub(super) ways: Vec<(String, RGBColor)>,
    pub(super) panels: Vec<Panel>,
    /// Panels in a row.
    pub(super) columns: usize,
}

/// One chart of a figure.
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) groups: Vec<Group>,
}

/// The bars of one algorithm.
pub(super) struct Group {
    pub(super) name: String,
    /// What to remember of it, below its name.
    pub(super) note: String,
    /// In the order of the figure's ways; `None`: not measured.
    pub(super) bars: Vec<Option<Bar>>,
}

/// One bar: its height, and where its whisker begins and ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bar {
    pub(super) value: f64,
    pub(super) whisker: [f64; 2],
}

/// Of the width of a group, what its bars take.
const FILL: f64 = 0.78;

/// A bar more than this times as high as all comparable ones is cut off.
const TALLEST: f64 = 2.5;

impl Bars {
    /// The figure as SVG.
    pub(super) fn svg(&self) -> String {
        let rows = self.panels.len().div_ceil(self.columns);
        let size = (560 * self.columns as u32 + 80, 380 * rows as u32 + 110);
        canvas::draw(size, &self.title, |body| {
            let body = canvas::legend(body, &self.ways)?;
            let cells = body.split_evenly((rows, self.columns));
            self.panels.iter().zip(&cells).try_for_each(|(panel, cell)| self.panel(panel, cell))
        })
    }

    fn panel(&self, panel: &Panel, cell: &Area<'_>) -> canvas::Drawn {
        let top = panel.top();
        let mut chart = ChartBuilder::on(cell)
            .caption(&panel.title, bold(17))
            .margin(10)
            .margin_bottom(44)
            .y_label_area_size(62)
            .x_label_area_size(1)
            .build_cartesian_2d(0.0..panel.groups.len() as f64, 0.0..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .x_labels(0)
            .y_labels(6)
            .label_style(font(14))
            .axis_desc_style(font(14))
            .y_desc(&self.axis)
            .y_label_formatter(&|value| canvas::number(*value))
            .draw()?;
        let width = FILL / self.ways.len() as f64;
        for (at, group) in panel.groups.iter().enumerate() {
            let start = at as f64 + (1.0 - FILL) / 2.0;
            for (way, bar) in group.bars.iter().enumerate() {
                let Some(bar) = bar else { continue };
                let left = start + way as f64 * width;
                let colour = self.ways[way].1;
                let box_ = [(left, 0.0), (left + 0.92 * width, bar.value.min(top))];
                chart.draw_series([Rectangle::new(box_, colour.filled())])?;
                let middle = left + 0.46 * width;
                if bar.value <= top {
                    let whisker = bar.whisker.map(|end| (middle, end.min(top)));
                    chart.draw_series([PathElement::new(whisker, INK.stroke_width(1))])?;
                }
                let cut = bar.value > top;
                let label = canvas::number(bar.value) + if cut { " ↑" } else { "" };
                // Inside a bar that has room for it: above it stands the whisker.
                let (place, offset, at, colour) = match bar.value > 0.12 * top {
                    true => (VPos::Top, 5, bar.value, WHITE),
                    false => (VPos::Bottom, -3, bar.whisker[1].max(bar.value), INK),
                };
                let style = bold(13).color(&colour).pos(Pos::new(HPos::Center, place));
                let text =
                    EmptyElement::at((middle, at.min(top))) + Text::new(label, (0, offset), style);
                chart.draw_series([text])?;
            }
            let below = |text: &str, offset, style: TextStyle<'static>| {
                let style = style.pos(Pos::new(HPos::Center, VPos::Top));
                EmptyElement::at((at as f64 + 0.5, 0.0))
                    + Text::new(text.to_owned(), (0, offset), style)
            };
            chart.draw_series([below(&group.name, 8, font(14))])?;
            chart.draw_series([below(&group.note, 26, bold(13))])?;
        }
        Ok(())
    }
}

impl Panel {
    /// The top of the axis: above every bar, except one that would make the others too small
    /// to compare.
    fn top(&self) -> f64 {
        let bars = self.groups.iter().flat_map(|group| group.bars.iter().enumerate());
        let bars: Vec<(usize, Bar)> = bars.filter_map(|(way, bar)| Some((way, (*bar)?))).collect();
        let highest = |bars: &mut dyn Iterator<Item = &(usize, Bar)>| {
            bars.map(|(_, bar)| bar.value.max(bar.whisker[1])).fold(0.0, f64::max)
        };
        let all = highest(&mut bars.iter());
        // The first way is there for orientation; the others are compared.
        let compared = highest(&mut bars.iter().filter(|(way, _)| *way > 0));
        let top = if compared > 0.0 && all > TALLEST * compared { 1.3 * compared } else { all };
        round_up(1.08 * top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(values: [f64; 3]) -> Panel {
        let bars = values.map(|value| Some(Bar { value, whisker: [value, value] }));
        let group = Group { name: "null".into(), note: "1.00".into(), bars: bars.to_vec() };
        Panel { title: "TCP".into(), groups: vec![group] }
    }

    fn figure(values: [f64; 3]) -> String {
        let ways = ["base", "bare", "personal"].map(|way| (way.to_owned(), INK)).to_vec();
        let (title, axis) = ("Throughput".to_owned(), "Gbit/s".to_owned());
        Bars { title, axis, ways, panels: vec![panel(values)], columns: 1 }.svg()
    }

    #[test]
    fn the_axis_reaches_above_every_bar_that_can_be_compared() {
        assert!(panel([11.0, 24.0, 26.0]).top() > 26.0);
        let top = panel([300.0, 2.0, 3.0]).top();
        assert!(top > 3.0 && top < 10.0, "{top}");
        assert!(panel([0.0, 0.0, 0.0]).top() > 0.0);
    }

    #[test]
    fn a_bar_that_is_cut_off_says_so_and_how_high_it_is() {
        let svg = figure([300.0, 2.0, 3.0]);
        assert!(svg.contains("300 ↑") && svg.contains("Gbit/s") && svg.contains("personal"));
        assert!(!figure([4.0, 2.0, 3.0]).contains('↑'));
    }
}
