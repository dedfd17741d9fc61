//! Where an op works: its input, its output and two pieces of scratch memory in what is free.

use core::ops::Range;

use residual_core::{
    format::View,
    quant::{Conv, Op},
};

use crate::{
    arch::winograd,
    kernel::{ADD_TABLES, direct, winograd as tiles},
};

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// products of this many pixels at a time
    Direct {
        /// 4 or 8
        pixels: usize,
    },
    /// exact Winograd, this many groups of four tiles at a time
    Winograd {
        /// at least 1
        groups: usize,
    },
}

/// The places of one op in the arena, as byte ranges.
#[derive(Clone, Debug)]
pub struct Places {
    pub input: Range<usize>,
    pub shortcut: Option<Range<usize>>,
    pub output: Range<usize>,
    /// tables, transformed weights
    pub work: Range<usize>,
    /// transformed tiles, interleaved pixels
    pub tiles: Range<usize>,
    pub algorithm: Algorithm,
}

/// At most this often the weights of a layer are transformed for one image.
const PASSES: usize = 4;

const fn round(bytes: usize) -> usize {
    bytes.next_multiple_of(crate::ARENA_ALIGN)
}

/// Byte ranges in use, sorted and disjoint. Networks keep few values alive; should there be more than
/// fit, neighbours are merged with the gap between them, which wastes memory but is correct.
struct Busy {
    ranges: [Range<usize>; 6],
    len: usize,
}

impl Busy {
    fn during(view: &View<'_>, op: usize) -> Option<Self> {
        let mut busy = Busy { ranges: [const { 0..0 }; 6], len: 0 };
        busy.add(view.value(op + 1)?.range());
        for later in op..view.ops() {
            let reads = [view.source(later), view.shortcut(later)];
            for value in reads.into_iter().flatten().filter(|v| *v <= op) {
                busy.add(view.value(value)?.range());
            }
        }
        Some(busy)
    }

    fn add(&mut self, range: Range<usize>) {
        let mut range = range.start..round(range.end);
        // Take out whatever it touches, then put the union back.
        let mut kept = 0;
        let full = self.len == self.ranges.len();
        for i in 0..self.len {
            let Some(old) = self.ranges.get(i).cloned() else { return };
            let touches = old.start <= range.end && range.start <= old.end;
            if touches || (full && i + 1 == self.len) {
                range = range.start.min(old.start)..range.end.max(old.end);
            } else if let Some(slot) = self.ranges.get_mut(kept) {
                *slot = old;
                kept += 1;
            }
        }
        if let Some(slot) = self.ranges.get_mut(kept) {
            *slot = range;
            kept += 1;
        }
        self.len = kept;
        if let Some(used) = self.ranges.get_mut(..kept) {
            used.sort_unstable_by_key(|r| r.start);
        }
    }

    /// The free ranges of an arena of `len` bytes, lowest first.
    fn gaps(&self, len: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        let used = self.ranges.get(..self.len).unwrap_or_default();
        let starts = core::iter::once(0).chain(used.iter().map(|r| r.end));
        let ends = used.iter().map(|r| r.start).chain(core::iter::once(len));
        starts.zip(ends).filter(|(start, end)| start < end).map(|(start, end)| start..end)
    }

    /// The lowest gap that holds `bytes`.
    fn first_fit(&self, len: usize, bytes: usize) -> Option<Range<usize>> {
        self.gaps(len).find(|g| g.len() >= bytes).map(|g| g.start..g.start + bytes)
    }

    fn largest(&self, len: usize) -> Range<usize> {
        self.gaps(len).max_by_key(|g| g.len()).unwrap_or(0..0)
    }
}

/// Bytes of both pieces for `conv` computed with `algorithm`.
fn scratch(conv: &Conv<'_>, algorithm: Algorithm) -> (usize, usize) {
    let tables = if conv.add.is_some() { ADD_TABLES } else { 0 };
    let c = conv.window.input.c;
    match algorithm {
        Algorithm::Direct { pixels } => {
            let taps = conv.window.taps().next_multiple_of(4);
            (round(tables + direct::gather_bytes(conv)), round(2 * pixels * taps))
        }
        Algorithm::Winograd { groups } => {
            let weights = 4 * winograd::weight_words(c);
            (round(tables + tiles::SUMS + weights), round(groups * 4 * winograd::tile_words(c)))
        }
    }
}

/// What `conv` is given at least.
fn minimum(conv: &Conv<'_>, fast: bool) -> Algorithm {
    if fast && tiles::supports(conv) {
        Algorithm::Winograd { groups: tiles::groups(conv).div_ceil(PASSES) }
    } else {
        let out = conv.window.output;
        Algorithm::Direct { pixels: if fast && out.h * out.w > 4 { 8 } else { 4 } }
    }
}

/// Places op `index` in an arena of `len` bytes; the error is the length it needs.
pub fn place(view: &View<'_>, index: usize, len: usize, fast: bool) -> Result<Places, usize> {
    let defect = usize::MAX;
    let range = |v: usize| view.value(v).map(|v| v.range());
    let op = view.op(index).ok_or(defect)?;
    let mut busy = Busy::during(view, index).ok_or(defect)?;
    let input = view.source(index).and_then(range).ok_or(defect)?;
    let output = range(index + 1).ok_or(defect)?;
    let shortcut = view.shortcut(index).and_then(range);
    let Op::Conv(conv) = op else {
        let algorithm = Algorithm::Direct { pixels: 4 };
        return Ok(Places { input, shortcut, output, work: 0..0, tiles: 0..0, algorithm });
    };
    let mut algorithm = minimum(&conv, fast);
    let (work_bytes, tile_bytes) = scratch(&conv, algorithm);
    let need = |busy: &Busy, bytes: usize| busy.largest(usize::MAX).start + bytes;
    let work = busy.first_fit(len, work_bytes).ok_or_else(|| need(&busy, work_bytes) + tile_bytes)?;
    busy.add(work.clone());
    let gap = busy.largest(len);
    if gap.len() < tile_bytes {
        return Err(need(&busy, tile_bytes));
    }
    let mut tiles = gap.start..gap.start + tile_bytes;
    if let Algorithm::Winograd { groups } = &mut algorithm {
        // More tiles at a time: fewer passes over the weights, evenly filled.
        let one = 4 * winograd::tile_words(conv.window.input.c);
        let total = tiles::groups(&conv);
        let most = (gap.len() / one.max(1)).clamp(1, total);
        *groups = total.div_ceil(total.div_ceil(most));
        tiles = gap.start..gap.start + *groups * one;
    }
    Ok(Places { input, shortcut, output, work, tiles, algorithm })
}

/// Bytes of arena the model needs: what every op needs at least, and in fast mode up to an eighth more
/// if that spares passes over weights.
pub fn required(view: &View<'_>, fast: bool) -> usize {
    let mut need = round(view.arena_bytes());
    let mut index = 0;
    while index < view.ops() {
        match place(view, index, need, fast) {
            Ok(_) => index += 1,
            Err(more) if more > need && more < usize::MAX => need = more,
            Err(_) => return usize::MAX,
        }
    }
    if !fast {
        return need;
    }
    let mut best = (need, passes(view, need));
    for step in 1..=16 {
        let len = round(need + need / 128 * step);
        let cost = passes(view, len);
        if cost < best.1 {
            best = (len, cost);
        }
    }
    best.0
}

/// Weights transformed for one image.
fn passes(view: &View<'_>, len: usize) -> u64 {
    let of_op = |index| match (view.op(index), place(view, index, len, true)) {
        (Some(Op::Conv(conv)), Ok(Places { algorithm: Algorithm::Winograd { groups }, .. })) => {
            (tiles::groups(&conv).div_ceil(groups.max(1)) * conv.weights.len()) as u64
        }
        _ => 0,
    };
    (0..view.ops()).map(of_op).sum()
}
