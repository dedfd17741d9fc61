//! Where an op works: its input, its output and two pieces of scratch memory in what is free.

use core::ops::Range;

use residual_core::{
    quant::{Conv, Op},
    rsd::View,
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
        /// whether the weights of all channels are transformed once, or a pair's for every call
        resident: bool,
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

/// At most this often an arena's size is corrected; several times what any network takes.
pub const ATTEMPTS: usize = 1 << 12;

/// Bytes around the widened weights of two channels. With them, what eight pixels take is enough for four, a window and
/// such weights, should there be no more ([`crate::kernel`]'s `blocks`).
const FRAME: usize = 32;

/// Rounds up to whole units of [`crate::ARENA_ALIGN`].
pub const fn round(bytes: usize) -> usize {
    bytes.next_multiple_of(crate::ARENA_ALIGN)
}

/// Byte ranges in use, sorted by their starts. Networks keep few values alive; should there be more than
/// fit, the first range grows over the gaps, which wastes memory but is correct.
#[derive(Clone)]
pub struct Busy {
    ranges: [Range<usize>; 8],
    len: usize,
}

impl Busy {
    pub fn new() -> Self {
        Busy { ranges: [const { 0..0 }; 8], len: 0 }
    }

    fn during(view: &View<'_>, op: usize) -> Option<Self> {
        let mut busy = Busy::new();
        busy.add(view.value(op + 1)?.range());
        for later in op..view.ops() {
            let reads = [view.source(later), view.shortcut(later)];
            for value in reads.into_iter().flatten().filter(|v| *v <= op) {
                busy.add(view.value(value)?.range());
            }
        }
        Some(busy)
    }

    fn used(&self) -> &[Range<usize>] {
        self.ranges.get(..self.len).unwrap_or_default()
    }

    pub fn add(&mut self, range: Range<usize>) {
        let range = range.start..round(range.end);
        if self.used().iter().any(|u| u.start <= range.start && range.end <= u.end) {
            return;
        }
        let at = self.used().iter().filter(|u| u.start < range.start).count();
        if self.len < self.ranges.len() {
            // What begins later moves up by one.
            let mut next = range;
            self.ranges.iter_mut().take(self.len + 1).skip(at).for_each(|slot| core::mem::swap(slot, &mut next));
            self.len += 1;
        } else if let Some(first) = self.ranges.first_mut() {
            *first = first.start.min(range.start)..first.end.max(range.end);
        }
    }

    /// The lowest gap of an arena of `len` bytes that holds `bytes`, and the largest.
    fn gaps(&self, len: usize, bytes: usize) -> (Option<Range<usize>>, Range<usize>) {
        let (mut fits, mut largest, mut start) = (None, 0..0, 0);
        let end = len..len;
        for used in self.used().iter().chain([&end]) {
            let gap = start..used.start.min(len);
            if gap.len() > largest.len() {
                largest = gap.clone();
            }
            if fits.is_none() && gap.len() >= bytes {
                fits = Some(gap.start..gap.start + bytes);
            }
            start = start.max(used.end);
        }
        (fits, largest)
    }

    /// Takes `bytes` out of the lowest gap that holds them; the error is how many are missing.
    pub fn take(&mut self, len: usize, bytes: usize) -> Result<Range<usize>, usize> {
        let (fits, largest) = self.gaps(len, bytes);
        let range = fits.ok_or_else(|| bytes - largest.len())?;
        self.add(range.clone());
        Ok(range)
    }

    fn largest(&self, len: usize) -> Range<usize> {
        self.gaps(len, 0).1
    }
}

/// Bytes of both pieces for `conv` computed with `algorithm`.
fn scratch(conv: &Conv<'_>, algorithm: Algorithm) -> (usize, usize) {
    let tables = if conv.add.is_some() { ADD_TABLES } else { 0 };
    let c = conv.window.input.c;
    match algorithm {
        Algorithm::Direct { pixels } => (
            round(tables + direct::gather_bytes(conv)),
            round(direct::tile_bytes(conv, pixels) + if pixels == 8 { FRAME } else { 0 }),
        ),
        Algorithm::Winograd { groups, resident } => {
            let pairs = if resident { conv.window.output.c / 2 } else { 1 };
            let weights = 4 * winograd::weight_words(c) * pairs;
            (round(tables + tiles::SUMS + weights), round(groups * 4 * winograd::tile_words(c)))
        }
    }
}

/// What `conv` is given at least.
fn minimum(conv: &Conv<'_>, fast: bool) -> Algorithm {
    if fast && tiles::supports(conv) {
        Algorithm::Winograd { groups: tiles::groups(conv).div_ceil(PASSES), resident: false }
    } else {
        Algorithm::Direct { pixels: if fast { 8 } else { 4 } }
    }
}

/// Places op `index` in an arena of `len` bytes; the error is the length it needs.
pub fn place(view: &View<'_>, index: usize, len: usize, fast: bool) -> Result<Places, usize> {
    let defect = usize::MAX;
    let range = |v: usize| view.value(v).map(|v| v.range());
    let op = view.op(index).ok_or(defect)?;
    let busy = Busy::during(view, index).ok_or(defect)?;
    let input = view.source(index).and_then(range).ok_or(defect)?;
    let output = range(index + 1).ok_or(defect)?;
    let shortcut = view.shortcut(index).and_then(range);
    let Op::Conv(conv) = op else {
        let algorithm = Algorithm::Direct { pixels: 4 };
        return Ok(Places { input, shortcut, output, work: 0..0, tiles: 0..0, algorithm });
    };
    let least = minimum(&conv, fast);
    let mut best = fit(&busy, &conv, least, len)?;
    if let Algorithm::Winograd { groups, .. } = best.2 {
        // Weights that stay transformed, if they fit and would be transformed more than once otherwise.
        let resident = Algorithm::Winograd { groups: 1, resident: true };
        if groups < tiles::groups(&conv)
            && let Ok(fits) = fit(&busy, &conv, resident, len)
        {
            best = fits;
        }
    }
    let (work, tiles, algorithm) = best;
    Ok(Places { input, shortcut, output, work, tiles, algorithm })
}

/// As [`place`] for vectors, which do without Winograd: all that is free goes to the tiles.
pub fn place_vectors(view: &View<'_>, index: usize, len: usize, fast: bool) -> Result<Places, usize> {
    let mut places = place(view, index, len, fast)?;
    let (Some(Op::Conv(conv)), Some(mut busy)) = (view.op(index), Busy::during(view, index)) else {
        return Ok(places);
    };
    let algorithm = Algorithm::Direct { pixels: 8 };
    let (work, _) = scratch(&conv, algorithm);
    // Both fit: Winograd takes more than this.
    (places.work, places.algorithm) = (busy.take(len, work)?, algorithm);
    places.tiles = busy.largest(len);
    Ok(places)
}

/// Both pieces of scratch memory for `algorithm`, which is given as many tiles as there is room for; the
/// error is the arena length it needs.
fn fit(
    busy: &Busy,
    conv: &Conv<'_>,
    algorithm: Algorithm,
    len: usize,
) -> Result<(Range<usize>, Range<usize>, Algorithm), usize> {
    let (work_bytes, tile_bytes) = scratch(conv, algorithm);
    let mut busy = busy.clone();
    let work = busy.take(len, work_bytes).map_err(|missing| round(len + missing))?;
    let gap = busy.largest(len);
    if gap.len() < tile_bytes {
        return Err(round(len + tile_bytes - gap.len()));
    }
    let Algorithm::Winograd { resident, .. } = algorithm else {
        // All that is left: the more, the more channels at a time.
        return Ok((work, gap, algorithm));
    };
    // More tiles at a time: fewer passes over the weights, evenly filled.
    let one = 4 * winograd::tile_words(conv.window.input.c);
    let total = tiles::groups(conv);
    let most = (gap.len() / one.max(1)).min(total).max(1);
    let groups = total.div_ceil(total.div_ceil(most).max(1));
    Ok((work, gap.start..gap.start + groups * one, Algorithm::Winograd { groups, resident }))
}

/// Bytes of arena the model needs: what every op needs at least, and in fast mode up to an eighth more
/// if that spares passes over weights.
pub fn required(view: &View<'_>, fast: bool) -> usize {
    let mut need = round(view.arena_bytes());
    let mut attempts = 0;
    let mut index = 0;
    while index < view.ops() {
        match place(view, index, need, fast) {
            Ok(_) => index += 1,
            Err(more) if more > need && more < usize::MAX && attempts < ATTEMPTS => {
                need = more;
                attempts += 1;
            }
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
        (Some(Op::Conv(conv)), Ok(Places { algorithm: Algorithm::Winograd { groups, resident }, .. })) => {
            let passes = if resident { 1 } else { tiles::groups(&conv).div_ceil(groups.max(1)) };
            (passes * conv.weights.len()) as u64
        }
        _ => 0,
    };
    (0..view.ops()).map(of_op).sum()
}
