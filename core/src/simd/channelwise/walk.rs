//! The way over pixels and channels that all passes go.

use super::super::vector::{Op, Vector, load_all};

/// Vectors of a group: enough independent sums to hide the latency of an addition.
const GROUP: usize = 4;
/// Channels of a group on the widest instruction set.
const WIDEST: usize = GROUP * 16;

/// Parameters of `c` channels, repeated to fill a group where `c` divides one.
pub(super) struct PerChannel<'a> {
    pub values: &'a [f32],
    repeated: [f32; WIDEST],
}

impl<'a> PerChannel<'a> {
    pub fn new(values: &'a [f32]) -> Self {
        let mut repeated = [0.0; WIDEST];
        if WIDEST.is_multiple_of(values.len()) {
            for chunk in repeated.chunks_exact_mut(values.len()) {
                chunk.copy_from_slice(values);
            }
        }
        PerChannel { values, repeated }
    }

    /// Where channel 0 of a pixel of `width` (possibly several pixels in one) has its parameter.
    pub fn pointer(&self, width: usize) -> *const f32 {
        if width == self.values.len() { self.values.as_ptr() } else { self.repeated.as_ptr() }
    }
}

/// Some channels of all pixels.
#[derive(Clone, Copy)]
pub(super) struct Channels {
    /// the first
    pub first: usize,
    /// valid lanes of a vector; fewer than all only in a group of one
    pub lanes: usize,
    /// pixels, and elements from one to the next
    pub pixels: usize,
    pub width: usize,
}

/// A pass, written for one group of `NV` vectors.
pub(super) trait Pass {
    /// # Safety
    /// The CPU has `V`'s instruction set and the pass's pointers are valid for `at`.
    unsafe fn group<V: Vector, const NV: usize, const FULL: bool>(&mut self, at: Channels);
}

pub(super) struct Walk<'p, P> {
    pub pass: &'p mut P,
    pub len: usize,
    pub c: usize,
    /// several pixels may be taken as one
    pub tile: bool,
}

impl<P: Pass> Op for Walk<'_, P> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Walk { pass, len, c, tile } = self;
        let group = GROUP * V::LANES;
        let width = if tile && group.is_multiple_of(c) && len.is_multiple_of(group) { group } else { c };
        let pixels = len / width;
        let mut first = 0;
        while first < width {
            let left = width - first;
            let vectors = (left / V::LANES).min(GROUP);
            let at = Channels { first, lanes: left.min(V::LANES), pixels, width };
            // SAFETY: the caller's promise; the groups lie inside a pixel.
            unsafe {
                match vectors {
                    0 => pass.group::<V, 1, false>(at),
                    1 => pass.group::<V, 1, true>(at),
                    2 => pass.group::<V, 2, true>(at),
                    3 => pass.group::<V, 3, true>(at),
                    _ => pass.group::<V, GROUP, true>(at),
                }
            }
            first += if vectors == 0 { left } else { vectors * V::LANES };
        }
    }
}

#[inline(always)]
pub(super) unsafe fn load<V: Vector, const FULL: bool>(p: *const f32, lanes: usize) -> V {
    // SAFETY: the caller's promise.
    unsafe { if FULL { V::load(p) } else { V::load_first(p, lanes) } }
}

#[inline(always)]
pub(super) unsafe fn store<V: Vector, const FULL: bool>(v: V, p: *mut f32, lanes: usize) {
    // SAFETY: the caller's promise.
    unsafe { if FULL { v.store(p) } else { v.store_first(p, lanes) } }
}

#[inline(always)]
pub(super) unsafe fn load_group<V: Vector, const NV: usize, const FULL: bool>(p: *const f32, lanes: usize) -> [V; NV] {
    // SAFETY: the caller's promise; a group that is not full is one vector.
    unsafe {
        if FULL {
            return load_all(p);
        }
        [V::load_first(p, lanes); NV]
    }
}

/// Adds the lanes of a group's sums to their channels.
#[inline(always)]
pub(super) unsafe fn flush<V: Vector, const NV: usize>(sums: [V; NV], at: Channels, channels: &mut [f64]) {
    let mut lanes = [0.0f32; WIDEST];
    for (j, v) in sums.into_iter().enumerate() {
        // SAFETY: NV <= GROUP vectors fit.
        unsafe { v.store(lanes.as_mut_ptr().add(j * V::LANES)) };
    }
    let n = (NV - 1) * V::LANES + at.lanes;
    if at.width == channels.len() {
        channels[at.first..at.first + n].iter_mut().zip(lanes).for_each(|(s, v)| *s += f64::from(v));
    } else {
        for pixel in lanes[..n].chunks(channels.len()) {
            channels.iter_mut().zip(pixel).for_each(|(s, v)| *s += f64::from(*v));
        }
    }
}
