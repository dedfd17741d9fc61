//! What is computed on the way.

use super::{
    super::vector::Vector,
    walk::{Channels, Pass, PerChannel, flush, load, load_group, store},
};

/// Pixels summed in f32 before the sums go on in f64.
const RUN: usize = 512;

pub(super) struct Affine<'a> {
    pub x: *const f32,
    pub scale: PerChannel<'a>,
    pub shift: PerChannel<'a>,
    pub add: Option<*const f32>,
    pub floor: f32,
    pub y: *mut f32,
    pub pixel: usize,
}

impl Affine<'_> {
    #[inline(always)]
    unsafe fn pixels<V: Vector, const NV: usize, const FULL: bool, const ADD: bool>(&self, at: Channels) {
        // SAFETY: the maps are equally many whole pixels, parameters one element a channel, and `at` lies inside a pixel.
        unsafe {
            let step = if at.width == self.scale.values.len() { self.pixel } else { at.width };
            let scale: [V; NV] = load_group::<V, NV, FULL>(self.scale.pointer(at.width).add(at.first), at.lanes);
            let shift: [V; NV] = load_group::<V, NV, FULL>(self.shift.pointer(at.width).add(at.first), at.lanes);
            let floor = V::splat(self.floor);
            for p in 0..at.pixels {
                let x: [V; NV] = load_group::<V, NV, FULL>(self.x.add(p * at.width + at.first), at.lanes);
                for j in 0..NV {
                    let to = p * step + at.first + j * V::LANES;
                    let mut v = x[j].mul_add(scale[j], shift[j]);
                    if let (true, Some(add)) = (ADD, self.add) {
                        v = v.add(load::<V, FULL>(add.add(to), at.lanes));
                    }
                    store::<V, FULL>(floor.max(v), self.y.add(to), at.lanes);
                }
            }
        }
    }
}

impl Pass for Affine<'_> {
    #[inline(always)]
    unsafe fn group<V: Vector, const NV: usize, const FULL: bool>(&mut self, at: Channels) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.add {
                Some(_) => self.pixels::<V, NV, FULL, true>(at),
                None => self.pixels::<V, NV, FULL, false>(at),
            }
        }
    }
}

pub(super) struct Moments<'a> {
    pub x: *const f32,
    pub centre: PerChannel<'a>,
    pub sum: &'a mut [f64],
    pub square: &'a mut [f64],
}

impl Pass for Moments<'_> {
    #[inline(always)]
    unsafe fn group<V: Vector, const NV: usize, const FULL: bool>(&mut self, at: Channels) {
        // SAFETY: the maps are equally many whole pixels, parameters one element a channel, and `at` lies inside a pixel.
        unsafe {
            let centre: [V; NV] = load_group::<V, NV, FULL>(self.centre.pointer(at.width).add(at.first), at.lanes);
            let minus = V::splat(-1.0);
            for from in (0..at.pixels).step_by(RUN) {
                let (mut sum, mut square) = ([V::splat(0.0); NV], [V::splat(0.0); NV]);
                for p in from..(from + RUN).min(at.pixels) {
                    let x: [V; NV] = load_group::<V, NV, FULL>(self.x.add(p * at.width + at.first), at.lanes);
                    for j in 0..NV {
                        let d = centre[j].mul_add(minus, x[j]);
                        sum[j] = sum[j].add(d);
                        square[j] = d.mul_add(d, square[j]);
                    }
                }
                flush(sum, at, self.sum);
                flush(square, at, self.square);
            }
        }
    }
}

#[allow(clippy::large_enum_variant)] // lives on the stack of one call
pub(super) enum RawGate<'a> {
    Open,
    Map(*const f32),
    Affine(PerChannel<'a>, PerChannel<'a>),
}

pub(super) struct GradientSums<'a> {
    pub dy: *mut f32,
    pub gate: RawGate<'a>,
    pub x: *const f32,
    pub rstd: PerChannel<'a>,
    pub offset: PerChannel<'a>,
    pub sum: &'a mut [f64],
    pub product: &'a mut [f64],
}

const OPEN: u8 = 0;
const BY_MAP: u8 = 1;
const BY_AFFINE: u8 = 2;

impl GradientSums<'_> {
    /// The pass for one kind of gate. `map` is the map or null, `scale` and `shift` the gate's parameters.
    #[inline(always)]
    unsafe fn pixels<V: Vector, const NV: usize, const FULL: bool, const GATE: u8>(
        &mut self,
        at: Channels,
        map: *const f32,
        scale: [V; NV],
        shift: [V; NV],
    ) {
        // SAFETY: the maps are equally many whole pixels, `map` too where it is read, parameters one element a channel,
        // and `at` lies inside a pixel.
        unsafe {
            let rstd: [V; NV] = load_group::<V, NV, FULL>(self.rstd.pointer(at.width).add(at.first), at.lanes);
            let offset: [V; NV] = load_group::<V, NV, FULL>(self.offset.pointer(at.width).add(at.first), at.lanes);
            for from in (0..at.pixels).step_by(RUN) {
                let (mut sum, mut product) = ([V::splat(0.0); NV], [V::splat(0.0); NV]);
                for p in from..(from + RUN).min(at.pixels) {
                    for j in 0..NV {
                        let i = p * at.width + at.first + j * V::LANES;
                        let x: V = load::<V, FULL>(self.x.add(i), at.lanes);
                        let mut g: V = load::<V, FULL>(self.dy.add(i), at.lanes);
                        if GATE != OPEN {
                            let by = if GATE == BY_MAP {
                                load::<V, FULL>(map.add(i), at.lanes)
                            } else {
                                x.mul_add(scale[j], shift[j])
                            };
                            g = g.where_positive(by);
                            store::<V, FULL>(g, self.dy.add(i), at.lanes);
                        }
                        sum[j] = sum[j].add(g);
                        product[j] = x.mul_add(rstd[j], offset[j]).mul_add(g, product[j]);
                    }
                }
                flush(sum, at, self.sum);
                flush(product, at, self.product);
            }
        }
    }
}

impl Pass for GradientSums<'_> {
    #[inline(always)]
    unsafe fn group<V: Vector, const NV: usize, const FULL: bool>(&mut self, at: Channels) {
        // SAFETY: as `pixels` asks: the maps are equally many whole pixels, parameters one element a channel, and `at`
        // lies inside a pixel.
        unsafe {
            let none = [V::splat(0.0); NV];
            match &self.gate {
                RawGate::Open => self.pixels::<V, NV, FULL, OPEN>(at, core::ptr::null(), none, none),
                &RawGate::Map(map) => self.pixels::<V, NV, FULL, BY_MAP>(at, map, none, none),
                RawGate::Affine(scale, shift) => {
                    let scale = load_group::<V, NV, FULL>(scale.pointer(at.width).add(at.first), at.lanes);
                    let shift = load_group::<V, NV, FULL>(shift.pointer(at.width).add(at.first), at.lanes);
                    self.pixels::<V, NV, FULL, BY_AFFINE>(at, core::ptr::null(), scale, shift);
                }
            }
        }
    }
}

pub(super) struct Combine<'a> {
    pub g: *const f32,
    pub x: *const f32,
    pub coefficients: [PerChannel<'a>; 3],
    pub dx: *mut f32,
}

impl Pass for Combine<'_> {
    #[inline(always)]
    unsafe fn group<V: Vector, const NV: usize, const FULL: bool>(&mut self, at: Channels) {
        // SAFETY: the maps are equally many whole pixels, parameters one element a channel, and `at` lies inside a pixel.
        unsafe {
            let [a, b, c] = self.coefficients.each_ref().map(|p| p.pointer(at.width));
            let a: [V; NV] = load_group::<V, NV, FULL>(a.add(at.first), at.lanes);
            let b: [V; NV] = load_group::<V, NV, FULL>(b.add(at.first), at.lanes);
            let c: [V; NV] = load_group::<V, NV, FULL>(c.add(at.first), at.lanes);
            for p in 0..at.pixels {
                for j in 0..NV {
                    let i = p * at.width + at.first + j * V::LANES;
                    let x: V = load::<V, FULL>(self.x.add(i), at.lanes);
                    let g: V = load::<V, FULL>(self.g.add(i), at.lanes);
                    let dx = g.mul_add(a[j], x.mul_add(b[j], c[j]));
                    store::<V, FULL>(dx, self.dx.add(i), at.lanes);
                }
            }
        }
    }
}
