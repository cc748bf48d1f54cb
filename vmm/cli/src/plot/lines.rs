//! Figures over how many there are of something, on a logarithmic axis.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::canvas::{self, Area, FAINT, INK, bold, font, number, round_up};

/// A figure with panels of lines.
pub(super) struct Lines {
    pub(super) title: String,
    pub(super) panels: Vec<Panel>,
    /// Panels in a row.
    pub(super) columns: usize,
}

/// One chart of a figure.
pub(super) struct Panel {
    pub(super) title: String,
    /// What is counted.
    pub(super) across: &'static str,
    /// What is measured, with its unit.
    pub(super) axis: &'static str,
    pub(super) lines: Vec<Line>,
    /// How far from its first point a line may go and still be called flat, as a part of it.
    pub(super) flat: Option<f64>,
}

/// One line of a chart.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) colour: RGBColor,
    /// How many there are, of the first not none; and the measured figure.
    pub(super) points: Vec<(f64, f64)>,
}

/// Where the axis begins: left of 1, so that what stands there is clear of the axis.
const LEFT: f64 = 0.5;

impl Lines {
    /// The figure as SVG.
    pub(super) fn svg(&self) -> String {
        let rows = self.panels.len().div_ceil(self.columns);
        let size = (410 * self.columns as u32 + 40, 340 * rows as u32 + 60);
        canvas::draw(size, &self.title, |body| {
            let cells = body.split_evenly((rows, self.columns));
            self.panels.iter().zip(&cells).try_for_each(|(panel, cell)| panel.draw(cell))
        })
    }
}

impl Panel {
    fn draw(&self, cell: &Area<'_>) -> canvas::Drawn {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let mut counts: Vec<f64> = points().map(|point| point.0).collect();
        counts.sort_by(f64::total_cmp);
        counts.dedup();
        let highest = points().map(|point| point.1).fold(0.0, f64::max);
        let ends = (LEFT, 2.0 * counts.last().copied().unwrap_or(1.0));
        let across = (ends.0..ends.1).log_scale().with_key_points(counts);
        // Room above the lines for their names.
        let top = round_up(highest * (1.2 + 0.1 * self.lines.len() as f64));
        let mut chart = ChartBuilder::on(cell)
            .caption(&self.title, bold(17))
            .margin(10)
            .y_label_area_size(62)
            .x_label_area_size(44)
            .build_cartesian_2d(across, 0.0..top)?;
        chart
            .configure_mesh()
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .label_style(font(14))
            .axis_desc_style(font(14))
            .x_desc(self.across)
            .y_desc(self.axis)
            .x_label_formatter(&|value| count(*value))
            .y_label_formatter(&|value| number(*value))
            .y_labels(6)
            .draw()?;
        for (at, line) in self.lines.iter().enumerate() {
            let Some(&(_, first)) = line.points.first() else { continue };
            if let Some(flat) = self.flat {
                let band = [(ends.0, first * (1.0 - flat)), (ends.1, first * (1.0 + flat))];
                chart.draw_series([Rectangle::new(band, line.colour.mix(0.18).filled())])?;
            }
            let stroke = line.colour.stroke_width(2);
            chart.draw_series(LineSeries::new(line.points.iter().copied(), stroke))?;
            for &(x, y) in &line.points {
                let style = font(13).pos(Pos::new(HPos::Center, VPos::Bottom));
                let point = EmptyElement::at((x, y))
                    + Circle::new((0, 0), 4, line.colour.filled())
                    + Text::new(number(y), (0, -8), style);
                chart.draw_series([point])?;
            }
            if self.lines.len() > 1 {
                name(cell, at, line)?;
            }
        }
        Ok(())
    }
}

/// The names stand inside at the top, below one another, each beside its colour.
fn name(cell: &Area<'_>, at: usize, line: &Line) -> canvas::Drawn {
    let y = 52 + 20 * at as i32;
    let mark = [(90, y - 5), (104, y + 5)];
    cell.draw(&Rectangle::new(mark, line.colour.filled()))?;
    let style = font(14).pos(Pos::new(HPos::Left, VPos::Center));
    cell.draw(&Text::new(line.name.as_str(), (110, y), style))
}

/// A count as labels of an axis write it: 1, 100, 10k, 1M.
fn count(value: f64) -> String {
    match value {
        1e6.. => format!("{}M", number(value / 1e6)),
        1e4.. => format!("{}k", number(value / 1e3)),
        _ => number(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_labelled_and_the_axis_counts_in_powers() {
        let points = vec![(1.0, 2.3), (100.0, 2.3), (1e4, 2.4), (1e6, 2.6)];
        let lines = ["the busy one", "another"].map(|name| Line {
            name: name.into(),
            colour: INK,
            points: points.clone(),
        });
        let panel = Panel {
            title: "Lookup".into(),
            across: "SAs",
            axis: "ns",
            lines: lines.into(),
            flat: Some(0.05),
        };
        let svg = Lines { title: "Scale".into(), panels: vec![panel], columns: 1 }.svg();
        for text in ["1M", "100", "10k", "2.6", "ns", "the busy one", "SAs"] {
            assert!(svg.contains(text), "no {text}");
        }
    }

    #[test]
    fn counts_are_short() {
        assert_eq!([1.0, 128.0, 1e4, 1e6].map(count), ["1", "128", "10k", "1M"]);
    }

    #[test]
    fn a_line_without_points_draws_nothing() {
        let line = Line { name: "none".into(), colour: INK, points: Vec::new() };
        let panel =
            Panel { title: String::new(), across: "", axis: "", lines: vec![line], flat: None };
        assert!(Lines { title: String::new(), panels: vec![panel], columns: 1 }.svg().len() > 100);
    }
}
