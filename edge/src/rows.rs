//! Small mode: blocks computed row by row, their output in the place of their input.
//!
//! A *unit* is a residual block, or an op outside of blocks. Of a block's inner maps only the rows that
//! the next op's window covers are kept, in rings. An output row may overwrite the input rows that no op
//! of the block needs any more, which for identity shortcuts are always enough.

use core::ops::Range;

use residual_core::{
    quant::{Add, Conv, Op},
    rsd::{Value, View},
};

use crate::{
    arena::{Busy, round},
    kernel::{self, ADD_TABLES, direct, direct::Rows, pool},
};

/// Most ops of a unit: a projected shortcut and three convolutions.
const MOST: usize = 4;

/// The unit an inference is at.
#[derive(Clone, Debug)]
pub struct Unit {
    first: usize,
    last: usize,
    /// rows of each op that are computed
    done: [usize; MOST],
    input: Range<usize>,
    pub output: Range<usize>,
    /// rows of the inner values
    rings: [Range<usize>; MOST],
    /// tables and collected pixels
    work: Range<usize>,
    /// interleaved pixels
    tiles: Range<usize>,
    pixels: usize,
    /// whether ten columns at a time are interleaved where that is possible
    #[cfg_attr(not(residual_kernels = "dsp"), allow(dead_code))]
    columns: bool,
}

fn row_bytes(value: &Value) -> usize {
    value.shape.w * value.shape.c
}

/// The unit of ops that begins with op `first`: its last op. `None` if it is not one that works on
/// value `first` alone, or too long.
fn extent(view: &View<'_>, first: usize) -> Option<usize> {
    let mut last = view.last_use(first);
    let mut op = first;
    while op < last {
        last = last.max(view.last_use(op + 1));
        op += 1;
    }
    if last >= view.ops() || last - first >= MOST {
        return None;
    }
    for op in first..=last {
        let inner = |value: usize| value > first;
        let (source, shortcut) = (view.source(op)?, view.shortcut(op));
        // Inner values are read once; only a block's last op adds.
        let read_twice = (op + 1..=last).any(|o| {
            let reads = [view.source(o), view.shortcut(o)];
            reads.contains(&Some(source)) && inner(source)
        });
        let foreign = source < first || shortcut.is_some_and(|s| s < first || op < last || s == source);
        let whole = matches!(view.op(op)?, Op::GlobalAveragePool(_) | Op::Mean(_)) && first != last;
        if read_twice || foreign || whole {
            return None;
        }
    }
    Some(last)
}

/// Whether the model is a chain of units.
pub fn is_chain(view: &View<'_>) -> bool {
    let mut first = 0;
    while first < view.ops() {
        match extent(view, first) {
            Some(last) => first = last + 1,
            None => return false,
        }
    }
    true
}

/// The rows `from..to` of its source that row `row` of `op` needs.
fn needs(op: &Op<'_>, row: usize) -> Range<usize> {
    match op {
        Op::Conv(Conv { window, .. }) | Op::MaxPool(window) => {
            let top = row * window.stride;
            let from = top.saturating_sub(window.pad_top);
            from..(top + window.kernel).saturating_sub(window.pad_top).min(window.input.h)
        }
        _ => 0..op.input().h,
    }
}

fn add_of<'o>(op: &'o Op<'_>) -> Option<&'o Add> {
    match op {
        Op::Conv(conv) => conv.add.as_ref(),
        _ => None,
    }
}

/// The op of `first..=last` to compute a row of next, given how many rows are `done`: the last one if
/// what it needs is there, else whatever is missing.
fn pick(view: &View<'_>, first: usize, last: usize, done: &[usize; MOST]) -> Option<usize> {
    let rows_of = |value: usize| value.checked_sub(first + 1).map(|i| done.get(i).copied().unwrap_or_default());
    let mut op = last;
    loop {
        let row = *done.get(op - first)?;
        let this = view.op(op)?;
        let (source, shortcut) = (view.source(op)?, view.shortcut(op));
        if rows_of(source).is_some_and(|there| there < needs(&this, row).end) {
            op = source - 1;
        } else if let (Some(value), Some(add)) = (shortcut, add_of(&this))
            && rows_of(value).is_some_and(|there| there <= row * add.stride)
        {
            op = value - 1;
        } else {
            return Some(op);
        }
    }
}

/// Whether every output row finds only dead input rows in its way if the output begins where the
/// input does.
fn fits_in_place(view: &View<'_>, first: usize, last: usize) -> Option<bool> {
    let (x, y) = (view.value(first)?, view.value(last + 1)?);
    let mut done = [0; MOST];
    for row in 0..y.shape.h {
        loop {
            let op = pick(view, first, last, &done)?;
            if op == last {
                break;
            }
            *done.get_mut(op - first)? += 1;
        }
        // The first input row that is read while this row is written, or later.
        let mut live = x.shape.h;
        for op in (first..=last).filter(|op| view.source(*op) == Some(first)) {
            let next = *done.get(op - first)?;
            let this = view.op(op)?;
            if next < this.output().h {
                live = live.min(needs(&this, next).start);
            }
        }
        if view.shortcut(last) == Some(first)
            && let Some(add) = add_of(&view.op(last)?)
            && row + 1 < y.shape.h
        {
            live = live.min((row + 1) * add.stride);
        }
        *done.get_mut(last - first)? += 1;
        if live < x.shape.h && (row + 1) * row_bytes(&y) > live * row_bytes(&x) {
            return Some(false);
        }
    }
    Some(true)
}

/// Bytes of interleaved columns, where they are asked for and possible.
#[allow(unused_variables)] // cores that have no kernels for them
fn column_bytes(conv: &Conv<'_>, columns: bool) -> Option<usize> {
    #[cfg(residual_kernels = "dsp")]
    return kernel::columns::bytes(conv).filter(|_| columns);
    #[cfg(not(residual_kernels = "dsp"))]
    None
}

/// Bytes of tables and collected pixels, and of interleaved pixels.
fn scratch(view: &View<'_>, first: usize, last: usize, pixels: usize, columns: bool) -> Option<(usize, usize)> {
    let (mut gather, mut tables, mut tiles) = (0, 0, 0);
    for op in first..=last {
        if let Op::Conv(conv) = view.op(op)? {
            gather = gather.max(direct::gather_bytes(&conv));
            tiles = tiles.max(column_bytes(&conv, columns).unwrap_or_else(|| direct::tile_bytes(&conv, pixels)));
            if conv.add.is_some() {
                tables = ADD_TABLES;
            }
        }
    }
    // A shortcut's row passes through it if the output's row overlaps it.
    if view.shortcut(last) == Some(first) {
        tiles = tiles.max(row_bytes(&view.value(first)?));
    }
    Some((round(tables + gather), round(tiles)))
}

impl Unit {
    /// Places the unit that begins with op `first`, its input at byte `at`, in an arena of `len` bytes;
    /// the error is a length that may be enough, or `usize::MAX` for a model that is no chain. Interleaved `columns`
    /// take less than pixels, so that every core can do with the same arena.
    pub fn place(view: &View<'_>, first: usize, at: usize, len: usize, columns: bool) -> Result<Self, usize> {
        let defect = usize::MAX;
        let last = extent(view, first).ok_or(defect)?;
        let (x, y) = (view.value(first).ok_or(defect)?, view.value(last + 1).ok_or(defect)?);
        let (x_bytes, y_bytes) = (round(x.shape.elements()), round(y.shape.elements()));
        let input = at..at + x.shape.elements();
        let in_place = y_bytes <= x_bytes && fits_in_place(view, first, last).ok_or(defect)?;
        let start = match at {
            _ if in_place => at,
            0 => (len & !(crate::ARENA_ALIGN - 1)).saturating_sub(y_bytes).max(x_bytes),
            _ => 0,
        };
        let output = start..start + y.shape.elements();
        let end = output.end.max(input.end);
        if end > len {
            return Err(round(end));
        }
        if start < at && output.end > at {
            return Err(round(len + output.end - at));
        }
        let mut busy = Busy::new();
        busy.add(input.clone());
        busy.add(output.clone());
        let mut rings = [const { 0..0 }; MOST];
        for op in first..last {
            let value = view.value(op + 1).ok_or(defect)?;
            let reader = (op + 1..=last).find(|o| view.source(*o) == Some(op + 1));
            let rows = match reader {
                Some(reader) => match view.op(reader).ok_or(defect)? {
                    Op::Conv(Conv { window, .. }) | Op::MaxPool(window) => window.kernel.min(value.shape.h),
                    _ => value.shape.h,
                },
                None => 1,
            };
            let ring = busy.take(len, rows * row_bytes(&value)).map_err(|missing| round(len + missing))?;
            *rings.get_mut(op - first).ok_or(defect)? = ring;
        }
        let mut result = Err(defect);
        for pixels in [8, 4] {
            let mut busy = busy.clone();
            let (work, tiles) = scratch(view, first, last, pixels, columns).ok_or(defect)?;
            result = busy.take(len, work).and_then(|work| Ok((work, busy.take(len, tiles)?, pixels)));
            if result.is_ok() {
                break;
            }
        }
        let (work, tiles, pixels) = result.map_err(|missing| round(len + missing))?;
        Ok(Unit { first, last, done: [0; MOST], input, output, rings, work, tiles, pixels, columns })
    }

    /// The op whose row is next.
    pub fn op(&self, view: &View<'_>) -> Option<usize> {
        pick(view, self.first, self.last, &self.done)
    }

    /// The first op after this unit.
    pub fn end(&self) -> usize {
        self.last + 1
    }

    /// Computes one row of one op; whether the unit is finished.
    pub fn step(&mut self, view: &View<'_>, arena: &mut [u8]) -> Option<bool> {
        let index = self.op(view)?;
        let op = view.op(index)?;
        let row = *self.done.get(index - self.first)?;
        let to = self.row(view, index + 1, row)?;
        let source = view.source(index)?;
        let from = self.place_of(source)?;
        let (rows_of_op, window) = match &op {
            Op::Conv(conv) => {
                if conv.add.is_some() {
                    self.prepare_sum(view, conv, row, to.clone(), arena)?;
                }
                (op.output().h, conv.window)
            }
            Op::MaxPool(window) => (op.output().h, *window),
            Op::GlobalAveragePool(shape) => {
                let [input, output] = arena.get_disjoint_mut([from, to]).ok()?;
                pool::global_average(*shape, bytemuck::cast_slice(input), bytemuck::cast_slice_mut(output))?;
                return Some(true);
            }
            Op::Mean(mean) => {
                let [input, output] = arena.get_disjoint_mut([from, to]).ok()?;
                pool::mean(mean, bytemuck::cast_slice(input), bytemuck::cast_slice_mut(output))?;
                return Some(true);
            }
            _ => return None,
        };
        let first = needs(&op, row).start;
        let start = self.row(view, source, first)?.start - from.start;
        let ranges = [from, to, self.work.clone(), self.tiles.clone()];
        let [input, output, work, tiles] = arena.get_disjoint_mut(ranges).ok()?;
        // Tables come first; ops that have none leave them alone.
        let adds = add_of(&op).is_some() || view.shortcut(self.last).is_none();
        let work = work.get_mut(if adds { 0 } else { ADD_TABLES }..)?;
        let output = bytemuck::cast_slice_mut(output);
        let rows = Rows { data: bytemuck::cast_slice(input), first, start, len: window.input.w * window.input.c };
        match &op {
            #[cfg(residual_kernels = "dsp")]
            Op::Conv(conv) if column_bytes(conv, self.columns).is_some() => {
                kernel::columns::run(conv, &rows, row, output, work, tiles)?
            }
            Op::Conv(conv) => direct::run(conv, &rows, row..row + 1, self.pixels, output, work, tiles)?,
            _ => pool::max_row(&window, &rows, row, output)?,
        }
        *self.done.get_mut(index - self.first)? += 1;
        Some(index == self.last && row + 1 == rows_of_op)
    }

    /// Where a value's rows are: all of them, or the latest.
    fn place_of(&self, value: usize) -> Option<Range<usize>> {
        if value == self.first {
            Some(self.input.clone())
        } else if value == self.last + 1 {
            Some(self.output.clone())
        } else {
            self.rings.get(value.checked_sub(self.first + 1)?).cloned()
        }
    }

    /// The place of one row of a value.
    fn row(&self, view: &View<'_>, value: usize, row: usize) -> Option<Range<usize>> {
        let (place, bytes) = (self.place_of(value)?, row_bytes(&view.value(value)?));
        let rows = place.len().checked_div(bytes).filter(|n| *n > 0)?;
        let start = place.start + if row < rows { row } else { row % rows } * bytes;
        Some(start..start + bytes)
    }

    /// Brings the shortcut's row to where the sum will be, and fills the tables before the first.
    fn prepare_sum(
        &self,
        view: &View<'_>,
        conv: &Conv<'_>,
        row: usize,
        to: Range<usize>,
        arena: &mut [u8],
    ) -> Option<()> {
        let add = conv.add.as_ref()?;
        if row == 0 {
            let tables = arena.get_mut(self.work.clone())?.get_mut(..ADD_TABLES)?;
            kernel::fill_tables(conv, bytemuck::try_cast_slice_mut(tables).ok()?);
        }
        let mut from = self.row(view, view.shortcut(self.last)?, row * add.stride)?;
        let channels = conv.window.output.c;
        if from == to && add.stride == 1 && add.shortcut.c == channels {
            return Some(());
        }
        if from.start < to.end && to.start < from.end {
            let copy = self.tiles.start..self.tiles.start + from.len();
            let [source, aside] = arena.get_disjoint_mut([from, copy.clone()]).ok()?;
            aside.iter_mut().zip(source).for_each(|(to, from)| *to = *from);
            from = copy;
        }
        let [from, to] = arena.get_disjoint_mut([from, to]).ok()?;
        kernel::expand_row(add, bytemuck::cast_slice(from), bytemuck::cast_slice_mut(to), channels)
    }
}

/// Where the network's output is in an arena of `len` bytes; the error as for [`Unit::place`].
pub fn output(view: &View<'_>, len: usize) -> Result<Range<usize>, usize> {
    let (mut first, mut at) = (0, 0..0);
    while first < view.ops() {
        let unit = Unit::place(view, first, at.start, len, false)?;
        first = unit.end();
        at = unit.output;
    }
    Ok(at)
}

/// Bytes of arena a chain of units needs.
pub fn required(view: &View<'_>) -> usize {
    let mut need = round(view.value(0).map_or(0, |v| v.shape.elements()));
    // Every error adds what one unit lacks; no model can make that endless.
    for _ in 0..crate::arena::ATTEMPTS {
        match output(view, need) {
            Ok(_) => return need,
            Err(more) if more > need && more < usize::MAX => need = more,
            Err(_) => break,
        }
    }
    usize::MAX
}
