//! The operations a kernel may use, and the jump into one instruction set.

#[cfg(target_arch = "aarch64")]
use super::neon;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
use super::wasm;
#[cfg(target_arch = "x86_64")]
use super::{avx2::F32x8, avx512::F32x16};
use super::{
    isa::{Isa, Kind},
    portable::Portable,
};

/// A register of `LANES` f32 values.
///
/// # Safety
/// Every method may only be called where the CPU has the implementation's instruction set: inside
/// [`Op::run`] reached through [`dispatch`] or [`Vector::invoke`]. Pointers must be valid for the
/// elements a method names; no alignment is asked for.
pub(crate) trait Vector: Copy {
    /// f32 values in a register.
    const LANES: usize;
    /// Registers a full weight panel is wide.
    const PANEL: usize;
    /// Rows of the largest register tile that is one, two ... vectors wide, up to `PANEL`.
    const MAX_ROWS: [usize; 4];

    /// Runs `op` inside a function that has this instruction set enabled.
    unsafe fn invoke<O: Op>(op: O);
    /// All lanes `v`.
    unsafe fn splat(v: f32) -> Self;
    /// Reads `LANES` elements.
    unsafe fn load(p: *const f32) -> Self;
    /// Writes `LANES` elements.
    unsafe fn store(self, p: *mut f32);
    /// Asks for the cache line ([`LINE`]) at `p`, which need not be valid, where there is such an instruction.
    #[inline(always)]
    unsafe fn prefetch(_p: *const f32) {}
    /// The same into the nearest cache.
    #[inline(always)]
    unsafe fn prefetch_near(_p: *const f32) {}
    /// Reads the first `n <= LANES` elements, zeros elsewhere.
    unsafe fn load_first(p: *const f32, n: usize) -> Self;
    /// Writes the first `n <= LANES` elements.
    unsafe fn store_first(self, p: *mut f32, n: usize);
    /// `self * a + b`, fused where the instruction set fuses.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;
    /// Lane-wise sum.
    unsafe fn add(self, b: Self) -> Self;
    /// Lane-wise difference.
    unsafe fn sub(self, b: Self) -> Self;
    /// Lane-wise product.
    unsafe fn mul(self, b: Self) -> Self;
    /// Lane-wise maximum; a NaN in `b` comes through.
    unsafe fn max(self, b: Self) -> Self;
    /// `self` in the lanes where `by > 0`, zero in the others and where `by` is NaN.
    unsafe fn where_positive(self, by: Self) -> Self;
}

/// Reads `NV` vectors one after the other.
///
/// A loop, because a closure (as `array::from_fn` takes) is compiled without the instruction set of the
/// function around it, and it is up to the optimiser's mood whether the loads in it are inlined again.
///
/// # Safety
/// As [`Vector::load`], for `NV * LANES` elements.
#[inline(always)]
pub(super) unsafe fn load_all<V: Vector, const NV: usize>(p: *const f32) -> [V; NV] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut vectors = [V::splat(0.0); NV];
        for (j, v) in vectors.iter_mut().enumerate() {
            *v = V::load(p.add(j * V::LANES));
        }
        vectors
    }
}

/// Elements of a cache line.
pub(super) const LINE: usize = 16;

/// Cuts `rows` into as few tiles of up to `most` as can be: how many there are of which height. They are of nearly equal
/// height, for an odd remainder of one row would run at a fraction of the speed.
#[inline(always)]
pub(super) fn heights(rows: usize, most: usize) -> [(usize, usize); 2] {
    let tiles = rows.div_ceil(most);
    let (height, taller) = (rows / tiles, rows % tiles);
    [(taller, height + 1), (tiles - taller, height)]
}

/// Code generic over [`Vector`]. `run` must be `#[inline(always)]`, so that it is compiled inside
/// the function that enables the instruction set.
pub(crate) trait Op {
    /// The code.
    ///
    /// # Safety
    /// The CPU has `V`'s instruction set, and whatever the implementation asks of its fields holds.
    unsafe fn run<V: Vector>(self);
}

/// Repeats the body for `$i` in `0..$n`, `$n <= 14`, without a loop: accumulators only stay in registers
/// when every index is a constant, and LLVM does not unroll every loop this needs.
macro_rules! unroll {
    ($i:ident < $n:expr => $body:block) => {
        unroll!(@ $i $n, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    (@ $i:ident $n:expr, $body:block, $($k:literal)*) => {
        $(if $k < $n {
            #[allow(non_upper_case_globals)]
            const $i: usize = $k;
            $body
        })*
    };
}
pub(super) use unroll;

/// Runs `op` with the vectors of `isa`.
///
/// # Safety
/// Whatever `op` asks of its fields holds.
pub(crate) unsafe fn dispatch<O: Op>(isa: Isa, op: O) {
    // SAFETY: an `Isa` exists only for instruction sets the CPU has; the rest is the caller's.
    unsafe {
        match isa.kind() {
            Kind::Portable => Portable::invoke(op),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => F32x8::invoke(op),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => F32x16::invoke(op),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => neon::F32x4::invoke(op),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Kind::Wasm => wasm::F32x4::invoke(op),
        }
    }
}

/// Lanes and widest panel (in elements) and tallest full tile of `isa`, for packing and for names.
pub(crate) const fn tile_of(isa: Isa) -> (usize, usize, usize) {
    const fn of<V: Vector>() -> (usize, usize, usize) {
        (V::LANES, V::LANES * V::PANEL, V::MAX_ROWS[V::PANEL - 1])
    }
    match isa.kind() {
        Kind::Portable => of::<Portable>(),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => of::<F32x8>(),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => of::<F32x16>(),
        #[cfg(target_arch = "aarch64")]
        Kind::Neon => of::<neon::F32x4>(),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        Kind::Wasm => of::<wasm::F32x4>(),
    }
}
