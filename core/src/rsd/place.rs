//! Placing values in the arena.

use alloc::{vec, vec::Vec};

/// A value to place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    pub bytes: usize,
    /// the last op that reads it
    pub last_use: usize,
    /// the value of equal size whose place it takes over if that one dies in the op that writes this
    pub in_place_of: Option<usize>,
}

/// Values that share one place, the first written before op `from`, the last read by op `to`.
struct Group {
    bytes: usize,
    from: usize,
    to: usize,
    members: Vec<usize>,
    offset: usize,
}

/// Offsets for all values, value `i + 1` being written by op `i`, and the bytes they need.
///
/// A block's input, its output and so on along a stage share a place where identity shortcuts allow.
/// The shared places are filled largest first, of equals the longest-lived first, each at the lowest offset that is free for its whole
/// life: residual networks then need two of their largest maps.
pub(super) fn place(values: &[Lifetime]) -> (Vec<usize>, usize) {
    let mut groups: Vec<Group> = Vec::new();
    let mut group_of = vec![0; values.len()];
    for (index, value) in values.iter().enumerate() {
        let written = index.saturating_sub(1);
        match value.in_place_of.filter(|v| values[*v].last_use == written) {
            Some(v) => {
                let group = group_of[v];
                group_of[index] = group;
                groups[group].to = value.last_use;
                groups[group].members.push(index);
            }
            None => {
                group_of[index] = groups.len();
                let bytes = value.bytes.next_multiple_of(16);
                groups.push(Group { bytes, from: written, to: value.last_use, members: vec![index], offset: 0 });
            }
        }
    }
    groups.sort_by_key(|g| core::cmp::Reverse((g.bytes, g.to - g.from)));
    let mut offsets = vec![0; values.len()];
    let mut arena = 0;
    for i in 0..groups.len() {
        let (placed, rest) = groups.split_at_mut(i);
        let Some(group) = rest.first_mut() else { continue };
        let meets = |g: &&Group| g.from <= group.to && group.from <= g.to;
        let mut busy: Vec<(usize, usize)> =
            placed.iter().filter(meets).map(|g| (g.offset, g.offset + g.bytes)).collect();
        busy.sort_unstable();
        let mut at = 0;
        for (start, end) in busy {
            if start >= at + group.bytes {
                break;
            }
            at = at.max(end);
        }
        group.offset = at;
        arena = arena.max(at + group.bytes);
        group.members.iter().for_each(|m| offsets[*m] = at);
    }
    (offsets, arena)
}
