//! What every figure has: paper, a title, a legend, round numbers.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// The text and the axes.
pub(super) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
/// The lines behind.
pub(super) const FAINT: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);

/// A part of the figure.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What drawing comes to.
pub(super) type Drawn<T = ()> =
    Result<T, DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>>;

/// A text in the ink's colour, pixels high.
pub(super) fn font(size: i32) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size).into_font()).color(&INK)
}

/// The same, bold.
pub(super) fn bold(size: i32) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size).into_font().style(FontStyle::Bold)).color(&INK)
}

/// A figure of this size in pixels.
pub(super) fn draw(size: (u32, u32), title: &str, body: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let drawn = root
            .fill(&WHITE)
            .and_then(|()| root.titled(title, bold(21)))
            .and_then(|rest| body(&rest.margin(4, 4, 8, 16)))
            .and_then(|()| root.present());
        drawn.expect("drawing into a String cannot fail");
    }
    svg
}

/// Draws the names beside their colours in one line, and gives the area below it.
pub(super) fn legend<'a>(area: &Area<'a>, names: &[(String, RGBColor)]) -> Drawn<Area<'a>> {
    let (line, rest) = area.split_vertically(26);
    let (width, _) = line.dim_in_pixel();
    let entry = width as i32 / names.len().max(3) as i32;
    let start = (width as i32 - entry * names.len() as i32) / 2;
    for (at, (name, colour)) in names.iter().enumerate() {
        let left = start + entry * at as i32 + entry / 6;
        line.draw(&Rectangle::new([(left, 6), (left + 14, 20)], colour.filled()))?;
        let style = font(15).pos(Pos::new(HPos::Left, VPos::Center));
        line.draw(&Text::new(name.as_str(), (left + 20, 13), style))?;
    }
    Ok(rest)
}

/// The next number that makes a good end of an axis.
pub(super) fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0];
    steps.map(|step| step * power).into_iter().find(|&end| end >= value).unwrap_or(10.0 * power)
}

/// A number with three digits, as a label.
pub(super) fn number(value: f64) -> String {
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_axis_is_round_and_not_below_the_value() {
        for (value, end) in [(0.0, 1.0), (0.97, 1.0), (1.01, 1.2), (27.3, 30.0), (850.0, 1000.0)] {
            assert!((round_up(value) - end).abs() < 1e-9, "{value}: {}", round_up(value));
        }
    }

    #[test]
    fn numbers_have_three_digits_at_most_behind_no_idle_zeros() {
        let texts = [0.0, 0.354, 7.0, 26.04, 131.2, 1200.0].map(number);
        assert_eq!(texts, ["0", "0.35", "7", "26", "131", "1200"]);
    }
}
