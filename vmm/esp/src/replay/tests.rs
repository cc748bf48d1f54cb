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
        seq != 0 && top.saturating_sub(size - 1) <= seq && !self.accepted.contains(&seq)
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
                    let newest = slow.accepted.last().is_none_or(|last| seq > *last);
                    assert_eq!(fresh.accept(), newest);
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
    let covered = slow.accepted.range(window.top().saturating_sub(u64::from(size) - 1)..);
    assert_eq!(usize::from(window.accepted()), covered.count());
}

/// Numbers that start at `seq` and step as told: short, or of the size of a window.
fn walk(mut seq: u64, steps: &[(i16, bool)]) -> impl Iterator<Item = (u64, bool)> {
    steps.iter().map(move |(step, authentic)| {
        let step = if step % 4 == 0 { step / 4 } else { step % 80 };
        seq = seq.saturating_add_signed(step.into());
        (seq, *authentic)
    })
}

#[test]
fn the_window_agrees_with_a_set_of_all_numbers_for_any_steps() {
    let steps = bolero::produce::<(u16, Vec<(i16, bool)>)>();
    bolero::check!().with_generator(steps).for_each(|(size, steps)| {
        for start in [5000, 1 << 32, u64::MAX - 2000] {
            compare(64 + size % 4033, walk(start, steps));
        }
    });
}

#[test]
fn a_number_is_told_from_its_low_half_as_far_as_rfc_4303_promises() {
    // What is sent is the low half; what is meant is not older than the window and
    // less than 2^32 ahead of its end, at every end of a 32-bit subspace.
    let walks = bolero::produce::<(u16, u8, Vec<(i16, bool)>)>();
    bolero::check!().with_generator(walks).for_each(|(size, high, steps)| {
        let size = 64 + size % 4033;
        let mut window = ReplayWindow::new(WindowSize::new(size).unwrap());
        for (seq, authentic) in walk(u64::from(*high) << 32, steps) {
            let bottom = window.top().saturating_sub(u64::from(size) - 1);
            if seq >= bottom && seq - bottom < 1 << 32 {
                assert_eq!(window.extend(seq as u32), Ok(seq));
            } else {
                assert_ne!(window.extend(seq as u32), Ok(seq));
            }
            if authentic && let Ok(fresh) = window.check(seq) {
                fresh.accept();
            }
        }
    });
}

#[test]
fn the_high_half_is_guessed_by_the_two_cases_of_rfc_4303_appendix_a2() {
    let guess = |top: u64, low: u32| {
        let mut window = ReplayWindow::new(WindowSize::new(64).unwrap());
        window.check(top).unwrap().accept();
        window.extend(low)
    };
    // The window within one subspace (A2.1, case A): older numbers are of the next.
    assert_eq!(guess(0x5_0000_0100, 0xc1), Ok(0x5_0000_00c1));
    assert_eq!(guess(0x5_0000_0100, 0xc0), Ok(0x6_0000_00c0));
    assert_eq!(guess(0x5_0000_0100, u32::MAX), Ok(0x5_ffff_ffff));
    // The window across the end of one (case B): high numbers are of the one before.
    assert_eq!(guess(0x5_0000_0010, 0xffff_ffd1), Ok(0x4_ffff_ffd1));
    assert_eq!(guess(0x5_0000_0010, 0xffff_ffd0), Ok(0x5_ffff_ffd0));
    assert_eq!(guess(0x5_0000_0010, 0), Ok(0x5_0000_0000));
    // There is nothing before the first subspace, and nothing after the last.
    assert_eq!(guess(0x10, u32::MAX), Ok(0xffff_ffff));
    assert_eq!(guess(u64::MAX, u32::MAX), Ok(u64::MAX));
    assert_eq!(guess(u64::MAX, 0), Err(Discard::Replayed));
}

#[test]
fn the_edges_of_every_size_of_window_are_where_they_should_be() {
    for size in [64, 65, 127, 128, 129, 1024, 1025, 4095, 4096] {
        let width = u64::from(size);
        for top in
            [1, 2, 63, 64, 65, width - 1, width, width + 1, 10 * width + 17, 1 << 32, u64::MAX]
        {
            let around = top.saturating_sub(width + 70)..=top.saturating_add(1);
            let around = around.map(|seq| (seq, true));
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
