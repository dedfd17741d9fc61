//! From sums to bytes: rescaling, the shortcut's addition, clamping and storing.

mod affine;
pub(super) mod quick;

use core::cmp::min;

pub(crate) use affine::Affine;

use super::lanes::{Lanes, Pass};
use crate::quant::{Add, Encoding, Epilogue, Requant, Rounding};

/// What becomes of the sums of a convolution.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a> {
    /// bias, multiplier, left and right shift of every channel, rounded up to whole vectors; where all are plain, also
    /// [`quick::factor`]
    pub lanes: [&'a [i32]; 6],
    /// what happens to all of them
    pub epilogue: &'a Epilogue,
    /// whether sums are rescaled twice, nothing is shifted left, and everything right by one at least
    pub plain: bool,
    /// the addition of a shortcut, where it is one
    pub affine: Option<Affine>,
}

impl Finish<'_> {
    /// Whether factors with these shifts are [`Finish::plain`].
    pub(crate) fn is_plain(rounding: Rounding, shifts: &[i8]) -> bool {
        rounding == Rounding::Twice && shifts.iter().all(|&shift| shift < 0)
    }

    /// # Panics
    /// When the numbers of channels differ, are no whole vectors, or fewer than `first + channels`.
    pub(super) fn check(&self, lanes: usize, first: usize, channels: usize) {
        let all = self.lanes[0].len();
        assert!(self.lanes.iter().all(|l| l.len() == all) && all.is_multiple_of(lanes));
        assert!(first <= all && channels <= all - first);
    }
}

/// A [`Finish`] in registers of an instruction set.
pub(super) struct Ready<'a, L> {
    finish: Finish<'a>,
    bounds: Bounds<L>,
    addition: Addition<L>,
}

impl<'a, L: Lanes> Ready<'a, L> {
    #[inline(always)]
    pub unsafe fn new(finish: Finish<'a>) -> Self {
        let Epilogue { output, add, .. } = *finish.epilogue;
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe { Ready { finish, bounds: Bounds::new(output), addition: Addition::new(add, output) } }
    }
}

/// Sums of a block of pixels, `vectors` of channels each, and where they go.
pub(super) struct Block<'a, L> {
    pub ready: &'a Ready<'a, L>,
    /// vector `j` of pixel `(y, x)` at `((j * size + y * columns) + x) * LANES`
    pub sums: *const i32,
    pub size: usize,
    pub columns: usize,
    pub vectors: usize,
    /// of the first vector
    pub channel: usize,
    /// how many of the channels exist
    pub valid: usize,
    /// the rows and columns of the block that lie on the map
    pub rows: usize,
    pub width: usize,
    /// the first pixel's first channel, which holds the shortcut where one is added
    pub y: *mut i8,
    /// elements between pixels and between rows
    pub pixel: usize,
    pub row: usize,
}

impl<L: Lanes> Pass<L> for Block<'_, L> {
    #[inline(always)]
    unsafe fn run(self) {
        // SAFETY: the caller's promise.
        unsafe {
            let finish = &self.ready.finish;
            match (finish.plain, finish.epilogue.add) {
                (true, None) => self.all::<true, false>(),
                (true, Some(_)) => self.all::<true, true>(),
                (false, None) => self.all::<false, false>(),
                (false, Some(_)) => self.all::<false, true>(),
            }
        }
    }
}

impl<L: Lanes> Block<'_, L> {
    #[inline(always)]
    unsafe fn all<const PLAIN: bool, const ADD: bool>(self) {
        let Ready { finish, bounds, addition } = self.ready;
        let rounding = finish.epilogue.rounding;
        // SAFETY: the caller vouches for sums and pixels; lanes hold whole vectors.
        unsafe {
            for j in L::finish_pairs(&self)..self.vectors {
                // A panel's last vectors may hold no channel at all.
                let valid = min(self.valid.saturating_sub(j * L::LANES), L::LANES);
                if valid == 0 {
                    break;
                }
                let channel = self.channel + j * L::LANES;
                let mult = L::load(finish.lanes[1].as_ptr().add(channel));
                let left = L::load(finish.lanes[2].as_ptr().add(channel));
                let right = L::load(finish.lanes[3].as_ptr().add(channel));
                let less = right.sub(L::splat(1));
                for y in 0..self.rows {
                    for x in 0..self.width {
                        let sum = L::load(self.sums.add((j * self.size + y * self.columns + x) * L::LANES));
                        let scaled = match (PLAIN, rounding) {
                            (true, _) => sum.high(mult).divide_more(less),
                            (false, Rounding::Twice) => sum.shl(left).rescale(mult, right),
                            (false, Rounding::Once) => sum.rescale_once(mult, left, right),
                        };
                        let to = self.y.add(y * self.row + x * self.pixel + j * L::LANES);
                        let mut v = scaled.clamp(bounds.low, bounds.high);
                        if ADD {
                            v = addition.of(v, load::<L>(to, valid));
                        }
                        let v = v.add(if ADD { addition.bounds.zero } else { bounds.zero });
                        store(v, to, valid);
                    }
                }
            }
        }
    }
}

/// The first `valid` bytes.
#[inline(always)]
unsafe fn load<L: Lanes>(from: *const i8, valid: usize) -> L {
    // SAFETY: the caller vouches for `valid` bytes, at most a vector's lanes.
    unsafe {
        if valid == L::LANES {
            return L::load_bytes(from);
        }
        let mut part = [0; 16];
        core::ptr::copy_nonoverlapping(from, part.as_mut_ptr(), valid);
        L::load_bytes(part.as_ptr())
    }
}

#[inline(always)]
unsafe fn store<L: Lanes>(v: L, to: *mut i8, valid: usize) {
    // SAFETY: the caller vouches for `valid` bytes, at most a vector's lanes.
    unsafe {
        if valid == L::LANES {
            return v.store_bytes(to);
        }
        let mut part = [0i8; 16];
        v.store_bytes(part.as_mut_ptr());
        core::ptr::copy_nonoverlapping(part.as_ptr(), to, valid);
    }
}

/// The least and the largest value less the zero point, and the zero point.
#[derive(Clone, Copy)]
struct Bounds<L> {
    low: L,
    high: L,
    zero: L,
}

impl<L: Lanes> Bounds<L> {
    #[inline(always)]
    unsafe fn new(e: Encoding) -> Self {
        let bound = |v: i8| i32::from(v) - i32::from(e.zero_point);
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe {
            Bounds { low: L::splat(bound(e.min)), high: L::splat(bound(e.max)), zero: L::splat(e.zero_point.into()) }
        }
    }
}

/// A value less its zero point, at the common scale of an addition: `rescale(d << 20)` for `|d| < 256`.
///
/// `floor((d m 2^20 + 2^30) / 2^31)` is `d h + floor((d l + 2^10) / 2^11)` for `m = h 2^11 + l`, and no product leaves
/// 32 bits.
#[derive(Clone, Copy)]
struct Term<L> {
    upper: L,
    lower: L,
    half: L,
    eleven: L,
    less: L,
    divided: bool,
}

impl<L: Lanes> Term<L> {
    const BITS: i32 = 31 - Add::LEFT_SHIFT as i32;

    #[inline(always)]
    unsafe fn new(factor: Requant) -> Self {
        let right = -i32::from(factor.shift);
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe {
            Term {
                upper: L::splat(factor.mult >> Self::BITS),
                lower: L::splat(factor.mult & ((1 << Self::BITS) - 1)),
                half: L::splat(1 << (Self::BITS - 1)),
                eleven: L::splat(Self::BITS),
                less: L::splat(right - 1),
                divided: right > 0,
            }
        }
    }

    #[inline(always)]
    unsafe fn of(self, d: L) -> L {
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe {
            let high = d.mul(self.upper).add(d.mul(self.lower).add(self.half).shr(self.eleven));
            if self.divided { high.divide_more(self.less) } else { high }
        }
    }
}

/// The addition of a shortcut.
#[derive(Clone, Copy)]
struct Addition<L> {
    conv: Term<L>,
    shortcut: Term<L>,
    shortcut_zero: L,
    mult: L,
    right: L,
    divided: bool,
    bounds: Bounds<L>,
}

impl<L: Lanes> Addition<L> {
    #[inline(always)]
    unsafe fn new(add: Option<Add>, output: Encoding) -> Self {
        let none = Requant { mult: 0, shift: 0 };
        let factors = add.map_or([none; 3], |add| [add.rescale_conv, add.rescale_shortcut, add.rescale_sum]);
        let [conv, shortcut, sum] = factors;
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe {
            Addition {
                conv: Term::new(conv),
                shortcut: Term::new(shortcut),
                shortcut_zero: L::splat(add.map_or(0, |add| add.shortcut_zero.into())),
                mult: L::splat(sum.mult),
                right: L::splat(-i32::from(sum.shift)),
                divided: sum.shift < 0,
                bounds: Bounds::new(add.map_or(output, |add| add.output)),
            }
        }
    }

    /// The sum less its zero point: of a convolution's result less its zero point, and a shortcut.
    #[inline(always)]
    unsafe fn of(&self, v: L, shortcut: L) -> L {
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe {
            let sum = self.conv.of(v).add(self.shortcut.of(shortcut.sub(self.shortcut_zero)));
            let high = sum.high(self.mult);
            let sum = if self.divided { high.divide_more(self.right.sub(L::splat(1))) } else { high };
            sum.clamp(self.bounds.low, self.bounds.high)
        }
    }
}
