//! Tables for people: aligned, with numbers to the right and in short.

/// Rows that are looked at before the first is printed: their widths hold.
const ROWS: usize = 1000;

/// A table that prints itself as it grows, so that a long one needs no memory.
pub(crate) struct Table<const N: usize> {
    /// The heads; one that starts with `>` is of a column of numbers.
    heads: [&'static str; N],
    widths: [usize; N],
    rows: Vec<[String; N]>,
    is_begun: bool,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(heads: [&'static str; N]) -> Self {
        let widths = heads.map(|head| head.trim_start_matches('>').len());
        Self { heads, widths, rows: Vec::new(), is_begun: false }
    }

    pub(crate) fn row(&mut self, row: [String; N]) {
        self.rows.push(row);
        if self.rows.len() >= ROWS {
            self.print();
        }
    }

    /// Prints what is left; false if there was not one row.
    pub(crate) fn end(mut self) -> bool {
        if !self.rows.is_empty() {
            self.print();
        }
        self.is_begun
    }

    fn print(&mut self) {
        for line in self.lines() {
            say!("{line}");
        }
        self.is_begun = true;
        self.rows.clear();
    }

    fn lines(&mut self) -> Vec<String> {
        for row in &self.rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let heads = self.heads.map(|head| head.trim_start_matches('>').to_owned());
        let head = (!self.is_begun).then_some(&heads);
        head.into_iter().chain(&self.rows).map(|row| self.line(row)).collect()
    }

    fn line(&self, row: &[String; N]) -> String {
        let cells = row.iter().zip(self.widths).zip(self.heads);
        let cells = cells.map(|((cell, width), head)| match head.starts_with('>') {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }
}

/// A number in four letters or five: `950`, `12.3k`, `4.56M`.
pub(crate) fn short(number: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")];
    // Four digits are as short as three and a unit, and exact.
    if number < 10_000 {
        return number.to_string();
    }
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| number >= *unit).unwrap_or((1, ""));
    let value = number as f64 / unit as f64;
    match value {
        ..10.0 => format!("{value:.2}{name}"),
        ..100.0 => format!("{value:.1}{name}"),
        _ => format!("{value:.0}{name}"),
    }
}

/// So many of something: `1 space`, `2 spaces`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// A time of so many nanoseconds: `0.4 s`, `3m20s`, `5h03m`, `12d04h`.
pub(crate) fn duration(nanoseconds: u64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..10 => format!("{:.1} s", nanoseconds as f64 / 1e9),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_numbers_end_together() {
        let mut table = Table::new(["SPACE", ">PACKETS"]);
        for (name, packets) in [("red", "5"), ("a-long-name", "12345678")] {
            table.rows.push([name.to_owned(), packets.to_owned()]);
        }
        let lines = table.lines();
        assert_eq!(
            lines,
            ["SPACE         PACKETS", "red                 5", "a-long-name  12345678"]
        );
    }

    #[test]
    fn numbers_and_times_are_short() {
        let shorts = [0, 9999, 12_345, 999_999, 4_560_000, 123_456_789_000].map(short);
        assert_eq!(shorts, ["0", "9999", "12.3k", "1000k", "4.56M", "123G"]);
        assert_eq!([count(1, "space"), count(0, "space")], ["1 space", "0 spaces"]);
        let times = [400_000_000, 12_000_000_000, 200_000_000_000, 18_180_000_000_000];
        assert_eq!(times.map(duration), ["0.4 s", "12 s", "3m20s", "5h03m"]);
        assert_eq!(duration(1_051_200_000_000_000), "12d04h");
    }
}
