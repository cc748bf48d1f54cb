//! Distributions of one run, and what becomes of them over the rounds.

use serde::{Deserialize, Serialize};

/// Round-trip times of one run, microseconds; the guest's `rtt --json` prints the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// How many round trips.
    pub count: u64,
    /// The shortest.
    pub min_us: f64,
    /// Half are at most this.
    pub p50_us: f64,
    /// Nine of ten are at most this.
    pub p90_us: f64,
    /// 99 of 100 are at most this.
    pub p99_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Distribution {
    /// Of samples in nanoseconds.
    ///
    /// # Panics
    /// Without samples.
    pub fn of(mut samples: Vec<u64>) -> Self {
        samples.sort_unstable();
        // Nearest rank: the smallest sample that is not less than `percent` of them.
        let rank = |percent: usize| samples[(samples.len() * percent).div_ceil(100).max(1) - 1];
        let us = |ns: u64| ns as f64 / 1000.0;
        Self {
            count: samples.len() as u64,
            min_us: us(samples[0]),
            p50_us: us(rank(50)),
            p90_us: us(rank(90)),
            p99_us: us(rank(99)),
            max_us: us(samples[samples.len() - 1]),
        }
    }
}

/// The three figures of a cell of the table: medians over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Median of the rounds' medians.
    pub p50_us: f64,
    /// Median of the rounds' 90th percentiles.
    pub p90_us: f64,
    /// Median of the rounds' 99th percentiles.
    pub p99_us: f64,
}

impl Figures {
    /// Of the rounds of one cell.
    ///
    /// # Panics
    /// Without rounds.
    pub fn of(rounds: &[Distribution]) -> Self {
        let over = |part: fn(&Distribution) -> f64| median(rounds.iter().map(part).collect());
        let over = |part| to_thousandths(over(part));
        Self { p50_us: over(|d| d.p50_us), p90_us: over(|d| d.p90_us), p99_us: over(|d| d.p99_us) }
    }
}

/// One figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of one figure for each round.
    ///
    /// # Panics
    /// Without rounds.
    pub fn of(rounds: &[f64]) -> Self {
        let min = rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let max = rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let [median, min, max] = [median(rounds.to_vec()), min, max].map(to_thousandths);
        Self { median, min, max }
    }

    /// Of `figures` over `base`, each round with itself: what drifts from round to round
    /// cancels out.
    ///
    /// # Panics
    /// Without rounds.
    pub fn of_ratios(figures: &[f64], base: &[f64]) -> Self {
        let ratios: Vec<f64> = figures.iter().zip(base).map(|(f, b)| f / b).collect();
        Self::of(&ratios)
    }

    /// Of the medians of `figures` over those of `base`, each round with itself.
    ///
    /// # Panics
    /// Without rounds.
    pub fn of_medians(figures: &[Distribution], base: &[Distribution]) -> Self {
        let medians = |rounds: &[Distribution]| -> Vec<f64> {
            rounds.iter().map(|round| round.p50_us).collect()
        };
        Self::of_ratios(&medians(figures), &medians(base))
    }

    /// As tables write ratios: `median (min-max)`.
    pub(crate) fn text(&self) -> String {
        format!("{:.2} ({:.2}-{:.2})", self.median, self.min, self.max)
    }
}

/// As many digits as a measurement here is worth.
pub(crate) fn to_thousandths(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// The middle of `numbers`, or the mean of the middle two.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len() % 2 == 1 {
        numbers[middle]
    } else {
        f64::midpoint(numbers[middle - 1], numbers[middle])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(p50_us: f64) -> Distribution {
        Distribution { count: 1, min_us: 1.0, p50_us, p90_us: p50_us, p99_us: 9.0, max_us: 9.0 }
    }

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let d = Distribution::of((1..=200).rev().map(|n| n * 1000).collect());
        assert_eq!((d.count, d.min_us, d.max_us), (200, 1.0, 200.0));
        assert_eq!((d.p50_us, d.p90_us, d.p99_us), (100.0, 180.0, 198.0));
        let one = Distribution::of(vec![1500]);
        assert_eq!((one.min_us, one.p50_us, one.p99_us), (1.5, 1.5, 1.5));
    }

    #[test]
    fn a_ratio_pairs_the_rounds_and_keeps_their_spread() {
        let personal = [round(10.0), round(22.0), round(30.0)];
        let bare = [round(10.0), round(20.0), round(40.0)];
        let ratio = Spread::of_medians(&personal, &bare);
        assert_eq!((ratio.median, ratio.min, ratio.max), (1.0, 0.75, 1.1));
        assert_eq!(Figures::of(&bare[..2]).p50_us, 15.0);
    }

    #[test]
    fn a_drift_that_all_rounds_share_leaves_no_spread_in_the_ratio() {
        let drift = [1.0, 2.0, 3.0, 7.0];
        let ratio = Spread::of_ratios(&drift.map(|d| 1.5 * d), &drift);
        assert_eq!((ratio.median, ratio.min, ratio.max), (1.5, 1.5, 1.5));
        assert_eq!(Spread::of(&drift).median, 2.5);
    }
}
