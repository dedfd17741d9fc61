//! Disjoint mutable views of one buffer: rows and column ranges of a matrix.

use core::{
    marker::PhantomData,
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
};

/// A mutable matrix view: `rows` x `cols` elements, rows `stride` elements apart.
///
/// A feature map is one with a row per pixel and a column per channel.
pub struct MatMut<'a, T> {
    ptr: *mut T,
    rows: usize,
    cols: usize,
    stride: usize,
    marker: PhantomData<&'a mut [T]>,
}

// SAFETY: a view is an exclusive borrow of its elements, like `&mut [T]`.
unsafe impl<T: Send> Send for MatMut<'_, T> {}

impl<'a, T> MatMut<'a, T> {
    /// All of `data` as rows of `cols` elements; a remainder is left out.
    pub fn new(data: &'a mut [T], cols: usize) -> Self {
        let rows = data.len().checked_div(cols).unwrap_or(0);
        MatMut { ptr: data.as_mut_ptr(), rows, cols, stride: cols, marker: PhantomData }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements of a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from one row's start to the next's.
    pub fn stride(&self) -> usize {
        self.stride
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.ptr
    }

    /// Whole rows, of a view that has all its columns, as one slice.
    ///
    /// # Panics
    /// When there are no such rows, or the view is a range of columns.
    pub fn rows_mut(&mut self, rows: Range<usize>) -> &mut [T] {
        assert!(rows.start <= rows.end && rows.end <= self.rows && self.stride == self.cols);
        // SAFETY: the rows lie inside the view, side by side, and it is exclusively borrowed.
        unsafe { core::slice::from_raw_parts_mut(self.ptr.add(rows.start * self.stride), rows.len() * self.cols) }
    }

    /// The part in the given rows and columns.
    ///
    /// # Panics
    /// When a range does not lie inside the view.
    pub fn part(&mut self, rows: Range<usize>, cols: Range<usize>) -> MatMut<'_, T> {
        // SAFETY: `self` is exclusively borrowed for the part's lifetime.
        unsafe { self.part_unchecked(rows, cols) }
    }

    /// # Safety
    /// No other view of the same elements may be used while the part lives.
    unsafe fn part_unchecked<'p>(&self, rows: Range<usize>, cols: Range<usize>) -> MatMut<'p, T> {
        assert!(rows.start <= rows.end && rows.end <= self.rows && cols.start <= cols.end && cols.end <= self.cols);
        MatMut {
            // `wrapping_add`: an empty part of an empty view may start one past its end.
            ptr: self.ptr.wrapping_add(rows.start * self.stride + cols.start),
            rows: rows.len(),
            cols: cols.len(),
            stride: self.stride,
            marker: PhantomData,
        }
    }
}

/// A rectangle of a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rect {
    /// its rows
    pub rows: Range<usize>,
    /// its columns
    pub cols: Range<usize>,
}

/// A matrix handed out in disjoint rectangles, each at most once, from any thread.
pub struct Parts<'a, T> {
    whole: MatMut<'a, T>,
    rects: &'a [Rect],
    taken: [AtomicUsize; Parts::<()>::MAX / BITS],
}

// SAFETY: `take` hands out every rectangle at most once, rectangles are disjoint, and views are
// `Send`; nothing else is reachable.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

/// Bits of a flag word: 64-bit atomics do not exist on every target.
const BITS: usize = usize::BITS as usize;

impl<T> Parts<'_, T> {
    /// Rectangles one matrix can be handed out in.
    pub const MAX: usize = 256;
}

impl<'a, T> Parts<'a, T> {
    /// Prepares `whole` for being handed out. Rectangles are ordered by rows, those of the same rows by columns.
    ///
    /// # Panics
    /// When there are more than [`Parts::MAX`] rectangles, one ends before it begins or outside the matrix, or one is not
    /// ordered behind the one before it, or overlaps it.
    pub fn new(whole: MatMut<'a, T>, rects: &'a [Rect]) -> Self {
        assert!(rects.len() <= Parts::<()>::MAX);
        let inside = |range: &Range<usize>, end: usize| range.start <= range.end && range.end <= end;
        let inside = |rect: &Rect| inside(&rect.rows, whole.rows) && inside(&rect.cols, whole.cols);
        assert!(rects.iter().all(inside), "a rectangle is not inside the matrix");
        assert!(Self::are_ordered(rects), "rectangles are not ordered");
        Parts { whole, rects, taken: [const { AtomicUsize::new(0) }; Parts::<()>::MAX / BITS] }
    }

    /// Whether each lies in rows behind the one before, or in columns behind it of the same rows.
    fn are_ordered(rects: &[Rect]) -> bool {
        let ordered =
            |a: &Rect, b: &Rect| b.rows.start >= a.rows.end || (b.rows == a.rows && b.cols.start >= a.cols.end);
        rects.windows(2).all(|pair| ordered(&pair[0], &pair[1]))
    }

    /// Rectangle `i`, or `None` when it was taken before or does not exist.
    pub fn take(&self, i: usize) -> Option<MatMut<'_, T>> {
        let Rect { rows, cols } = self.rects.get(i)?.clone();
        let bit = 1 << (i % BITS);
        if self.taken[i / BITS].fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            return None;
        }
        // SAFETY: the bit makes sure that each rectangle is handed out once, and `new` that all are disjoint. It compared
        // neighbours only, which is enough, for no range ends before it begins: where the rows change from one rectangle
        // to the next, they begin at or behind the end of the rows before, so row starts never fall and different rows
        // share none; rectangles of the same rows follow one another, and their columns are ordered in the same way.
        Some(unsafe { self.whole.part_unchecked(rows, cols) })
    }
}

#[cfg(test)]
mod tests {
    use super::{MatMut, Parts, Rect};

    #[test]
    fn parts_are_disjoint_and_handed_out_once() {
        let mut data = [0; 7 * 10];
        let rects =
            [Rect { rows: 0..3, cols: 0..4 }, Rect { rows: 0..3, cols: 4..10 }, Rect { rows: 3..7, cols: 0..10 }];
        let parts = Parts::new(MatMut::new(&mut data, 10), &rects);
        for (i, rect) in rects.iter().enumerate() {
            let mut part = parts.take(i).unwrap();
            assert!(parts.take(i).is_none());
            assert_eq!((part.rows(), part.cols()), (rect.rows.len(), rect.cols.len()));
            for r in 0..part.rows() {
                let cols = part.cols();
                let mut row = part.part(r..r + 1, 0..cols);
                // SAFETY: the pointer is that of a row of `cols` elements.
                unsafe { core::slice::from_raw_parts_mut(row.as_mut_ptr(), cols) }.iter_mut().for_each(|v| *v += i + 1);
            }
        }
        assert!(parts.take(3).is_none());
        for (i, v) in data.iter().enumerate() {
            let want = if i / 10 >= 3 {
                3
            } else if i % 10 < 4 {
                1
            } else {
                2
            };
            assert_eq!(*v, want);
        }
    }

    #[cfg(panic = "unwind")]
    #[test]
    fn rectangles_that_are_inverted_or_outside_are_refused() {
        let rect = |rows: core::ops::Range<usize>, cols: core::ops::Range<usize>| Rect { rows, cols };
        let back = |n: usize| core::ops::Range { start: n, end: 0 };
        for rects in [
            // Behind an inverted one the first could come again.
            [rect(0..4, 0..4), rect(back(4), 0..4), rect(0..4, 0..4)],
            [rect(0..4, 0..4), rect(0..4, back(4)), rect(0..4, 0..4)],
            [rect(0..1, 0..4), rect(1..2, 0..4), rect(4..5, 0..4)],
            [rect(0..1, 0..4), rect(1..2, 0..4), rect(2..3, 0..5)],
            [rect(0..1, 0..4), rect(1..2, 0..4), rect(2..usize::MAX, 0..4)],
        ] {
            let refused = std::panic::catch_unwind(|| {
                let mut data = [0; 16];
                Parts::new(MatMut::new(&mut data, 4), &rects);
            });
            assert!(refused.is_err(), "{rects:?}");
        }
    }

    /// All triples of rectangles of a small matrix: those accepted share no element.
    #[test]
    fn whatever_is_accepted_is_disjoint() {
        let ranges: Vec<_> = (0..4).flat_map(|a| (0..4).map(move |b| core::ops::Range { start: a, end: b })).collect();
        let rects: Vec<Rect> = ranges
            .iter()
            .flat_map(|rows| ranges.iter().map(|cols| Rect { rows: rows.clone(), cols: cols.clone() }))
            .filter(|r| r.rows.start <= r.rows.end && r.cols.start <= r.cols.end && r.rows.end < 3 && r.cols.end < 3)
            .collect();
        let share = |a: &Rect, b: &Rect| {
            let meet = |a: &core::ops::Range<usize>, b: &core::ops::Range<usize>| a.clone().any(|i| b.contains(&i));
            meet(&a.rows, &b.rows) && meet(&a.cols, &b.cols)
        };
        let mut accepted = 0;
        for a in &rects {
            for b in &rects {
                for c in &rects {
                    let three = [a.clone(), b.clone(), c.clone()];
                    if Parts::<u8>::are_ordered(&three) {
                        accepted += 1;
                        assert!(!share(a, b) && !share(b, c) && !share(a, c), "{three:?}");
                    }
                }
            }
        }
        assert!(accepted > 100);
    }

    #[test]
    #[should_panic(expected = "ordered")]
    fn overlapping_parts_are_refused() {
        let mut data = [0; 20];
        let rects = [Rect { rows: 0..3, cols: 0..4 }, Rect { rows: 2..5, cols: 0..4 }];
        Parts::new(MatMut::new(&mut data, 4), &rects);
    }
}
