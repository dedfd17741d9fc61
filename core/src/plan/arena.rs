//! Placing values that live at different times into one buffer.

use alloc::vec::Vec;
use core::ops::Range;

/// Offsets are multiples of this many elements: a cache line of f32.
pub const ALIGN: usize = 16;

/// A value to place: its length and the steps during which it must stay intact, both ends included.
#[derive(Clone, Debug)]
pub struct Life {
    /// elements
    pub len: usize,
    /// from the step that writes it to the last step that reads it
    pub steps: Range<usize>,
}

/// Places every value; returns their ranges and the arena's length.
///
/// Greedy by size (Pisarchyk & Lee 2020, "Efficient Memory Management for Deep Neural Net
/// Inference"): the largest first, each at the lowest offset free during its whole life.
pub fn place(lives: &[Life]) -> (Vec<Range<usize>>, usize) {
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&i| core::cmp::Reverse(lives[i].len));
    let mut places: Vec<Range<usize>> = alloc::vec![0..0; lives.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut end = 0;
    for i in order {
        let life = &lives[i];
        let mut taken: Vec<Range<usize>> = placed
            .iter()
            .filter(|&&j| lives[j].steps.start < life.steps.end && life.steps.start < lives[j].steps.end)
            .map(|&j| places[j].clone())
            .collect();
        taken.sort_by_key(|range| range.start);
        let mut at = 0;
        for range in taken {
            if range.start >= at + life.len {
                break;
            }
            at = at.max(range.end.next_multiple_of(ALIGN));
        }
        places[i] = at..at + life.len;
        end = end.max(at + life.len);
        placed.push(i);
    }
    (places, end)
}

/// Borrows one range mutably and another immutably.
///
/// # Panics
/// When the read range overlaps the written one or lies outside.
pub(super) fn borrow(arena: &mut [u8], write: Range<usize>, read: Range<usize>) -> (&mut [u8], &[u8]) {
    let (head, rest) = arena.split_at_mut(write.start);
    let (middle, tail) = rest.split_at_mut(write.len());
    let read = if read.end <= write.start { &head[read] } else { &tail[read.start - write.end..read.end - write.end] };
    (middle, read)
}

#[cfg(test)]
mod tests {
    use super::{Life, borrow, place};

    #[test]
    fn values_alive_together_never_overlap() {
        let mut seed = 1u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((seed >> 33) % n) as usize
        };
        for _ in 0..200 {
            let lives: Vec<Life> = (0..20)
                .map(|_| {
                    let start = random(30);
                    Life { len: random(1000) + 1, steps: start..start + 1 + random(6) }
                })
                .collect();
            let (places, end) = place(&lives);
            for (i, a) in lives.iter().enumerate() {
                assert!(places[i].end <= end && places[i].len() == a.len);
                for (j, b) in lives.iter().enumerate().skip(i + 1) {
                    let together = a.steps.start < b.steps.end && b.steps.start < a.steps.end;
                    let overlap = places[i].start < places[j].end && places[j].start < places[i].end;
                    assert!(!(together && overlap), "{i} {j}");
                }
            }
        }
    }

    #[test]
    fn borrow_splits_around_the_written_range() {
        let mut arena: Vec<u8> = (0..10).collect();
        let (write, before) = borrow(&mut arena, 3..6, 0..3);
        assert_eq!((write[0], before[2]), (3, 2));
        let (write, after) = borrow(&mut arena, 3..6, 7..9);
        assert_eq!((write[2], after[0]), (5, 7));
        assert_eq!(borrow(&mut arena, 3..6, 0..0).1.len(), 0);
    }
}
