//! The int8 register tile and the loops around it: every int8 convolution ends here.
//!
//! A lane accumulates one output channel. One step multiplies a *word* of the input (4 bytes, or 2
//! 16-bit integers) with the same word of every lane's weights and adds the products, exactly, in 32
//! bits. Maps are copied into a padded buffer of words first, so that the `kernel * words` words that
//! a kernel row reads lie side by side.
//!
//! | kind | word | input | weights |
//! |---|---|---|---|
//! | `avx512-vnni` | 4 bytes | `x + 128`, unsigned; the bias takes back `128 + zero point` times the weights' sum | i8 |
//! | `avx2`, `portable` | 2 i16 | `x - zero point` | i16 |

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;
mod tile;
#[cfg(target_arch = "x86_64")]
mod vnni;

use alloc::{vec, vec::Vec};

pub(crate) use tile::{Map, Output, Sum};

use super::{Isa, isa::Kind};
use crate::quant::{Conv, Window};
use tile::Tile;

/// An int8 instruction set this CPU has; a value is the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DotIsa(Dot);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dot {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Vnni,
}

impl DotIsa {
    /// The int8 counterpart of `isa`; AVX-512 without VNNI computes as AVX2.
    pub fn of(isa: Isa) -> Self {
        DotIsa(match isa.kind() {
            Kind::Portable => Dot::Portable,
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => Dot::Portable,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Kind::Wasm => Dot::Portable,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => Dot::Avx2,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 if has_vnni() => Dot::Vnni,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 if has_avx2() => Dot::Avx2,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => Dot::Portable,
        })
    }

    /// `portable`, `avx2` or `avx512-vnni`.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Dot::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Dot::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Dot::Vnni => "avx512-vnni",
        }
    }

    /// Lanes, products of a word, and vectors of the widest panel.
    const fn shape(self) -> (usize, usize, usize) {
        const fn of<L: tile::Lanes>() -> (usize, usize, usize) {
            (L::LANES, L::PER_WORD, L::PANEL)
        }
        match self.0 {
            Dot::Portable => of::<portable::Words>(),
            #[cfg(target_arch = "x86_64")]
            Dot::Avx2 => of::<avx2::Words>(),
            #[cfg(target_arch = "x86_64")]
            Dot::Vnni => of::<vnni::Words>(),
        }
    }
}

#[cfg(all(target_arch = "x86_64", feature = "std"))]
fn has_vnni() -> bool {
    std::is_x86_feature_detected!("avx512vnni") && std::is_x86_feature_detected!("avx512f")
}

#[cfg(all(target_arch = "x86_64", not(feature = "std")))]
fn has_vnni() -> bool {
    cfg!(all(target_feature = "avx512vnni", target_feature = "avx512f"))
}

#[cfg(all(target_arch = "x86_64", feature = "std"))]
fn has_avx2() -> bool {
    std::is_x86_feature_detected!("avx2")
}

#[cfg(all(target_arch = "x86_64", not(feature = "std")))]
fn has_avx2() -> bool {
    cfg!(target_feature = "avx2")
}

/// A convolution's tensors in the layout of one instruction set.
///
/// Panels of up to `panel` vectors of output channels; in a panel, a row of weights for every word of
/// the depth. Channels past the last compute zeros that nobody stores.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    isa: DotIsa,
    words: Vec<i32>,
    /// per lane: bias, multiplier, left shift, right shift
    lanes: [Vec<i32>; 4],
    map: Map,
    pad: i16,
}

impl Packed {
    /// Packs `conv`, whose slices fit its geometry.
    pub(crate) fn new(isa: DotIsa, conv: &Conv<'_>) -> Self {
        let (lanes, per_word, panel) = isa.shape();
        let Window { input, output, kernel, .. } = conv.window;
        let pixel = input.c.div_ceil(per_word);
        let map = Map::new(&conv.window, pixel);
        let c_out = output.c.next_multiple_of(lanes);
        let depth = kernel * kernel * pixel;
        let mut words = vec![0; depth * c_out];
        for o in 0..output.c {
            let first = o / (panel * lanes) * panel * lanes;
            let width = (c_out - first).min(panel * lanes);
            for (tap, weights) in conv.weights[o * conv.window.taps()..].chunks_exact(input.c).enumerate() {
                if tap == kernel * kernel {
                    break;
                }
                for (w, group) in weights.chunks(per_word).enumerate() {
                    let row = tap * pixel + w;
                    words[first * depth + row * width + o - first] = word(group, per_word);
                }
            }
        }
        let zero = i32::from(conv.input_zero);
        let biased = per_word == 4;
        let mut rows = [(); 4].map(|()| vec![0; c_out]);
        for (o, weights) in conv.weights.chunks_exact(conv.window.taps()).enumerate() {
            let sum: i32 = weights.iter().map(|w| i32::from(*w)).sum();
            let taken_back = if biased { (zero + 128).wrapping_mul(sum) } else { 0 };
            let shift = i32::from(conv.shift[o]);
            rows[0][o] = conv.bias[o].wrapping_sub(taken_back);
            rows[1][o] = conv.mult[o];
            rows[2][o] = shift.max(0);
            rows[3][o] = (-shift).max(0);
        }
        let pad = if biased { i16::from(conv.input_zero) + 128 } else { i16::from(conv.input_zero) };
        Packed { isa, words, lanes: rows, map, pad }
    }

    /// Words of the padded copy of the input.
    pub(crate) fn scratch_len(&self) -> usize {
        self.map.len()
    }

    /// Computes the whole map `y` from `x`; `added` is the shortcut laid out as `y`, or, if it is absent
    /// though the output has a sum, what `y` holds.
    ///
    /// # Panics
    /// When a slice does not fit the convolution this was packed from.
    pub(crate) fn run(&self, x: &[i8], scratch: &mut [i32], output: &Output, added: Option<&[i8]>, y: &mut [i8]) {
        let (lanes, per_word, panel) = self.isa.shape();
        let scratch = &mut scratch[..self.map.len()];
        match per_word {
            4 => self.map.copy_bytes(x, self.pad as u8, scratch),
            _ => self.map.copy_halves(x, self.pad, scratch),
        }
        assert_eq!(y.len(), self.map.pixels() * self.map.channels);
        assert!(added.is_none_or(|a| a.len() == y.len()));
        let tile = Tile {
            map: &self.map,
            x: scratch,
            words: &self.words,
            lanes: self.lanes.each_ref().map(Vec::as_slice),
            output,
            added,
            y,
            width: panel * lanes,
        };
        // SAFETY: a `DotIsa` exists only for what the CPU has; the assertions above and `Packed::new` give
        // the lengths that `Tile` asks for.
        unsafe {
            match self.isa.0 {
                Dot::Portable => portable::invoke(tile),
                #[cfg(target_arch = "x86_64")]
                Dot::Avx2 => avx2::invoke(tile),
                #[cfg(target_arch = "x86_64")]
                Dot::Vnni => vnni::invoke(tile),
            }
        }
    }
}

/// Up to `per_word` weights as one word, in the order `Map` copies inputs in.
fn word(weights: &[i8], per_word: usize) -> i32 {
    if per_word == 4 {
        let mut bytes = [0; 4];
        bytes.iter_mut().zip(weights).for_each(|(b, w)| *b = *w as u8);
        i32::from_ne_bytes(bytes)
    } else {
        let mut halves = [0i16; 2];
        halves.iter_mut().zip(weights).for_each(|(h, w)| *h = i16::from(*w));
        bytemuck::cast(halves)
    }
}
