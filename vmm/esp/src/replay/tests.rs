//! The window against the obvious slow one: a set of all numbers ever accepted.

use std::collections::BTreeSet;

use super::*;

#[derive(Default)]
struct Slow {
    accepted: BTreeSet<u64>,
}

impl Slow {
    fn check(&self, seq: u64, size: u64) -> bool {
        let top = self.accepted.last().copied().unwrap_or(0);
        seq != 0 && seq + size > top && !self.accepted.contains(&seq)
    }
}

/// Checks each number against the slow window, and accepts it if `authentic`.
fn compare(size: u16, numbers: impl IntoIterator<Item = (u64, bool)>) {
    let mut window = ReplayWindow::new(WindowSize::new(size).unwrap());
    let mut slow = Slow::default();
    for (seq, authentic) in numbers {
        let expected = slow.check(seq, size.into());
        match window.check(seq) {
            Ok(fresh) => {
                assert!(expected, "{seq} must not be fresh");
                assert_eq!(fresh.seq(), seq);
                if authentic {
                    fresh.accept();
                    slow.accepted.insert(seq);
                }
            }
            Err(reason) => {
                assert_eq!(reason, Discard::Replayed);
                assert!(!expected, "{seq} must be fresh");
            }
        }
        assert_eq!(window.top(), slow.accepted.last().copied().unwrap_or(0));
    }
}

#[test]
fn the_window_agrees_with_a_set_of_all_numbers_for_any_steps() {
    // Steps from the last number: short ones, and some of the size of the window.
    let steps = bolero::produce::<(u16, Vec<(i16, bool)>)>();
    bolero::check!().with_generator(steps).for_each(|(size, steps)| {
        let mut seq = 5000_u64;
        let numbers = steps.iter().map(|(step, authentic)| {
            let step = if step % 4 == 0 { step / 4 } else { step % 80 };
            seq = seq.saturating_add_signed(step.into());
            (seq, *authentic)
        });
        compare(64 + size % 4033, numbers);
    });
}

#[test]
fn the_edges_of_every_size_of_window_are_where_they_should_be() {
    for size in [64, 65, 127, 128, 129, 1024, 1025, 4095, 4096] {
        let width = u64::from(size);
        for top in [1, 2, 63, 64, 65, width - 1, width, width + 1, 10 * width + 17, 1 << 32] {
            let around = (top.saturating_sub(width + 70)..top + 2).map(|seq| (seq, true));
            compare(size, [(top, true)].into_iter().chain(around.rev()));
        }
    }
}

#[test]
fn a_jump_over_the_whole_ring_forgets_nothing_it_should_know() {
    compare(64, (1..200).chain([100_000, 199, 99_999, 99_937, 99_936]).map(|seq| (seq, true)));
}

#[test]
fn sizes_outside_64_to_4096_are_refused() {
    for packets in [0, 1, 63, 4097, u16::MAX] {
        assert_eq!(WindowSize::new(packets), Err(WindowSizeError(packets)));
    }
    assert_eq!(WindowSize::default(), WindowSize::new(1024).unwrap());
}
