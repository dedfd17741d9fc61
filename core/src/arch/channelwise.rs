//! Passes over the pixels of NHWC maps with parameters per channel: batch norm, forward and backward.
//!
//! Channels are walked in groups of a few vectors, whose parameters and sums stay in registers while
//! all pixels pass. Where several pixels fill a group exactly, they are taken as one wider pixel.

use super::{
    isa::Isa,
    vector::{Op, Vector, dispatch, load_all},
};

/// Vectors of a group: enough independent sums to hide the latency of an addition.
const GROUP: usize = 4;
/// Channels of a group on the widest instruction set.
const WIDEST: usize = GROUP * 16;
/// Pixels summed in f32 before the sums go on in f64.
const RUN: usize = 512;

/// What [`affine`] adds before the activation.
#[derive(Clone, Copy)]
pub enum Addend<'a> {
    /// nothing
    None,
    /// a map like the output
    Map(&'a [f32]),
    /// what the output holds
    Output,
}

/// `y = act(scale * x + shift + addend)`: batch norm with its statistics folded into two numbers a
/// channel, the shortcut and ReLU. Pixels of `y` begin `pixel` elements apart.
///
/// # Panics
/// When a slice does not fit the others: `x` is whole pixels of `scale.len()` channels, `y` as many
/// pixels of `pixel` elements (the last may be cut off after its channels).
#[allow(clippy::too_many_arguments)] // operands of one formula
pub fn affine(
    isa: Isa,
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    addend: Addend<'_>,
    relu: bool,
    y: &mut [f32],
    pixel: usize,
) {
    let c = scale.len();
    check(x.len(), c, &[shift.len()]);
    if x.is_empty() {
        return;
    }
    assert!(pixel >= c && y.len() >= (x.len() / c - 1) * pixel + c, "output too short");
    let y = y.as_mut_ptr();
    let add = match addend {
        Addend::None => None,
        Addend::Map(map) => {
            assert!(map.len() == x.len() && pixel == c, "a shortcut is laid out as the output");
            Some(map.as_ptr())
        }
        Addend::Output => Some(y.cast_const()),
    };
    // A NaN comes through the maximum with either floor.
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    let (scale, shift) = (PerChannel::new(scale), PerChannel::new(shift));
    let mut pass = Affine { x: x.as_ptr(), scale, shift, add, floor, y, pixel };
    // SAFETY: the lengths were checked, and `add` is either `y` itself or a slice that cannot overlap it.
    unsafe { dispatch(isa, Walk { pass: &mut pass, len: x.len(), c, tile: pixel == c }) }
}

/// Adds, for every channel, `sum (x - centre)` and `sum (x - centre)^2` over all pixels.
///
/// Subtracting a value close to the mean keeps the variance that follows from the sums accurate where
/// it is small against the mean (Chan, Golub & LeVeque 1983).
///
/// # Panics
/// When a slice does not fit the others.
pub fn moments(isa: Isa, x: &[f32], centre: &[f32], sum: &mut [f64], square: &mut [f64]) {
    let c = centre.len();
    check(x.len(), c, &[sum.len(), square.len()]);
    let mut pass = Moments { x: x.as_ptr(), centre: PerChannel::new(centre), sum, square };
    // SAFETY: the lengths were checked.
    unsafe { dispatch(isa, Walk { pass: &mut pass, len: x.len(), c, tile: true }) }
}

/// Where the gradient passes ReLU.
#[derive(Clone, Copy)]
pub enum Gate<'a> {
    /// everywhere: there is no ReLU, or the gradient has passed it already
    Open,
    /// where this map, the output of ReLU, is positive
    Map(&'a [f32]),
    /// where `scale * x + shift` is positive, with these two
    Affine(&'a [f32], &'a [f32]),
}

/// ReLU's backward and the sums batch norm's backward needs: `g = dy` where the gate is open, else 0
/// (in place), and for every channel adds `sum g` and `sum g * xhat`, `xhat = rstd * x + offset`.
///
/// # Panics
/// When a slice does not fit the others.
#[allow(clippy::too_many_arguments)] // operands of one formula
pub fn gradient_sums(
    isa: Isa,
    dy: &mut [f32],
    gate: Gate<'_>,
    x: &[f32],
    rstd: &[f32],
    offset: &[f32],
    sum: &mut [f64],
    product: &mut [f64],
) {
    let c = rstd.len();
    check(x.len(), c, &[offset.len(), sum.len(), product.len()]);
    assert_eq!(dy.len(), x.len());
    let (dy, x) = (dy.as_mut_ptr(), x);
    let (rstd, offset) = (PerChannel::new(rstd), PerChannel::new(offset));
    let gate = match gate {
        Gate::Open => RawGate::Open,
        Gate::Map(map) => {
            assert_eq!(map.len(), x.len());
            RawGate::Map(map.as_ptr())
        }
        Gate::Affine(scale, shift) => {
            assert!(scale.len() == c && shift.len() == c);
            RawGate::Affine(PerChannel::new(scale), PerChannel::new(shift))
        }
    };
    let mut pass = GradientSums { dy, gate, x: x.as_ptr(), rstd, offset, sum, product };
    // SAFETY: the lengths were checked.
    unsafe { dispatch(isa, Walk { pass: &mut pass, len: x.len(), c, tile: true }) }
}

/// `dx = a * g + b * x + c`: batch norm's backward, with its sums folded into three numbers a channel.
///
/// # Panics
/// When a slice does not fit the others.
pub fn combine(isa: Isa, g: &[f32], x: &[f32], coefficients: [&[f32]; 3], dx: &mut [f32]) {
    let c = coefficients[0].len();
    check(x.len(), c, &coefficients.map(<[f32]>::len));
    assert!(g.len() == x.len() && dx.len() == x.len());
    let coefficients = coefficients.map(PerChannel::new);
    let mut pass = Combine { g: g.as_ptr(), x: x.as_ptr(), coefficients, dx: dx.as_mut_ptr() };
    // SAFETY: the lengths were checked.
    unsafe { dispatch(isa, Walk { pass: &mut pass, len: x.len(), c, tile: true }) }
}

fn check(len: usize, c: usize, per_channel: &[usize]) {
    assert!(c > 0 && len.is_multiple_of(c), "{len} elements are not pixels of {c} channels");
    assert!(per_channel.iter().all(|&n| n == c), "per-channel slices of {per_channel:?} elements for {c} channels");
}

/// Parameters of `c` channels, repeated to fill a group where `c` divides one.
struct PerChannel<'a> {
    values: &'a [f32],
    repeated: [f32; WIDEST],
}

impl<'a> PerChannel<'a> {
    fn new(values: &'a [f32]) -> Self {
        let mut repeated = [0.0; WIDEST];
        if WIDEST.is_multiple_of(values.len()) {
            for chunk in repeated.chunks_exact_mut(values.len()) {
                chunk.copy_from_slice(values);
            }
        }
        PerChannel { values, repeated }
    }

    /// Where channel 0 of a pixel of `width` (possibly several pixels in one) has its parameter.
    fn pointer(&self, width: usize) -> *const f32 {
        if width == self.values.len() { self.values.as_ptr() } else { self.repeated.as_ptr() }
    }
}

/// Some channels of all pixels.
#[derive(Clone, Copy)]
struct Channels {
    /// the first
    first: usize,
    /// valid lanes of a vector; fewer than all only in a group of one
    lanes: usize,
    /// pixels, and elements from one to the next
    pixels: usize,
    width: usize,
}

/// A pass, written for one group of `NV` vectors.
trait Pass {
    /// # Safety
    /// The CPU has `V`'s instruction set and the pass's pointers are valid for `at`.
    unsafe fn group<V: Vector, const NV: usize, const FULL: bool>(&mut self, at: Channels);
}

struct Walk<'p, P> {
    pass: &'p mut P,
    len: usize,
    c: usize,
    /// several pixels may be taken as one
    tile: bool,
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
unsafe fn load<V: Vector, const FULL: bool>(p: *const f32, lanes: usize) -> V {
    // SAFETY: the caller's promise.
    unsafe { if FULL { V::load(p) } else { V::load_first(p, lanes) } }
}

#[inline(always)]
unsafe fn store<V: Vector, const FULL: bool>(v: V, p: *mut f32, lanes: usize) {
    // SAFETY: the caller's promise.
    unsafe { if FULL { v.store(p) } else { v.store_first(p, lanes) } }
}

#[inline(always)]
unsafe fn load_group<V: Vector, const NV: usize, const FULL: bool>(p: *const f32, lanes: usize) -> [V; NV] {
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
unsafe fn flush<V: Vector, const NV: usize>(sums: [V; NV], at: Channels, channels: &mut [f64]) {
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

struct Affine<'a> {
    x: *const f32,
    scale: PerChannel<'a>,
    shift: PerChannel<'a>,
    add: Option<*const f32>,
    floor: f32,
    y: *mut f32,
    pixel: usize,
}

impl Affine<'_> {
    #[inline(always)]
    unsafe fn pixels<V: Vector, const NV: usize, const FULL: bool, const ADD: bool>(&self, at: Channels) {
        // SAFETY: the public function checked all lengths.
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

struct Moments<'a> {
    x: *const f32,
    centre: PerChannel<'a>,
    sum: &'a mut [f64],
    square: &'a mut [f64],
}

impl Pass for Moments<'_> {
    #[inline(always)]
    unsafe fn group<V: Vector, const NV: usize, const FULL: bool>(&mut self, at: Channels) {
        // SAFETY: the public function checked all lengths.
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
enum RawGate<'a> {
    Open,
    Map(*const f32),
    Affine(PerChannel<'a>, PerChannel<'a>),
}

struct GradientSums<'a> {
    dy: *mut f32,
    gate: RawGate<'a>,
    x: *const f32,
    rstd: PerChannel<'a>,
    offset: PerChannel<'a>,
    sum: &'a mut [f64],
    product: &'a mut [f64],
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
        // SAFETY: the public function checked all lengths; `map` is as long as `x` where it is read.
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
        // SAFETY: the public function checked all lengths; the gates read a map like `x`, or parameters.
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

struct Combine<'a> {
    g: *const f32,
    x: *const f32,
    coefficients: [PerChannel<'a>; 3],
    dx: *mut f32,
}

impl Pass for Combine<'_> {
    #[inline(always)]
    unsafe fn group<V: Vector, const NV: usize, const FULL: bool>(&mut self, at: Channels) {
        // SAFETY: the public function checked all lengths.
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
