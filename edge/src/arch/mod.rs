//! What depends on the instruction set, and the only place with `unsafe` code.
//!
//! | kernels | for | how |
//! |---|---|---|
//! | `portable` | M0+, RISC-V, hosts | plain Rust |
//! | `mla` | M3, M33 without DSP | multiply-accumulate: a product an instruction; the rest is `portable` |
//! | `dsp` | M4, M7, M33 | SMLAD: two products an instruction |
//! | `mve` | M55, M85 | vectors of 16 bytes |
//!
//! Two channels travel in one 32-bit word as two 16-bit halves, a *pair*. A *linear* pair is
//! `low + 2^16 high` modulo 2^32 with signed halves: sums, differences and shifts of linear pairs are
//! those of both halves at once. Words of four channels `c0 c1 c2 c3` give the pairs `(c0, c2)` and
//! `(c1, c3)`.

pub mod winograd;

#[cfg(all(residual_blocks, not(residual_kernels = "dsp")))]
mod block;
#[cfg(residual_kernels = "dsp")]
mod dsp;
#[cfg(residual_kernels = "mla")]
mod mla;
#[cfg(residual_kernels = "mve")]
pub mod mve;
#[cfg(not(residual_kernels = "dsp"))]
mod portable;
#[cfg(not(residual_kernels = "dsp"))]
mod transform;

#[cfg(all(residual_blocks, not(residual_kernels = "dsp")))]
pub use block::{Block, Windows, block_words, pack};
#[cfg(residual_kernels = "dsp")]
pub use dsp::{
    Block, Eight, Finish, Windows, block_words, dot4, has_window, input_of_quad, interleave, pack, products,
    weights_of_quad,
};
#[cfg(residual_kernels = "mla")]
pub use mla::products;
#[cfg(any(residual_kernels = "portable", residual_kernels = "mve"))]
pub use portable::products;
#[cfg(not(residual_kernels = "dsp"))]
pub use portable::{Eight, dot4, interleave};
#[cfg(not(residual_kernels = "dsp"))]
pub use transform::{Finish, input_of_quad, weights_of_quad};

/// `round(a * b / 2^32)`, a tie going up.
#[inline(always)]
pub fn multiply_high(a: i32, b: i32) -> i32 {
    if cfg!(residual_mul32) {
        multiply_high_by_parts(a, b)
    } else {
        ((i64::from(a) * i64::from(b) + 0x8000_0000) >> 32) as i32
    }
}

/// [`multiply_high`] from 16-bit parts, for cores that multiply 32 bits to 32 only. `b >= 0`.
#[inline(always)]
pub fn multiply_high_by_parts(a: i32, b: i32) -> i32 {
    let (al, ah) = (a & 0xffff, a >> 16);
    let (bl, bh) = (b & 0xffff, b >> 16);
    let low = (al as u32).wrapping_mul(bl as u32) >> 16;
    let (m1, m2) = (ah.wrapping_mul(bl), al.wrapping_mul(bh));
    // Units of 2^16: the rounding constant 2^31 is 2^15 of them. No sum reaches 2^18.
    let carry = (low + (m1 as u32 & 0xffff) + (m2 as u32 & 0xffff) + 0x8000) >> 16;
    ah.wrapping_mul(bh).wrapping_add(m1 >> 16).wrapping_add(m2 >> 16).wrapping_add(carry as i32)
}

/// Two signed halves from a linear pair.
#[cfg(not(residual_kernels = "dsp"))]
#[inline(always)]
pub fn split(linear: u32) -> u32 {
    linear.wrapping_add(0x8000_8000) ^ 0x8000_8000
}

/// Spreads four signed bytes into linear pairs of `byte + 128`.
#[cfg(not(residual_kernels = "dsp"))]
#[inline(always)]
pub fn unpack(word: u32) -> (u32, u32) {
    let biased = word ^ 0x8080_8080;
    (biased & 0x00ff_00ff, (biased >> 8) & 0x00ff_00ff)
}

#[cfg(test)]
mod tests {
    use super::{multiply_high, multiply_high_by_parts};

    #[test]
    fn both_high_products_agree() {
        let edges = [0, 1, -1, 2, -2, 0x7fff, 0x8000, -0x8000, 0xffff, 0x10000, -0x10001, i32::MAX, i32::MIN];
        let mut seed = 5u32;
        let mut draw = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed as i32
        };
        for _ in 0..20_000 {
            let (a, b) = (draw() >> (draw() & 15), draw() & i32::MAX);
            assert_eq!(multiply_high(a, b), multiply_high_by_parts(a, b), "{a} {b}");
        }
        for a in edges {
            for b in edges.into_iter().filter(|b| *b >= 0) {
                assert_eq!(multiply_high(a, b), multiply_high_by_parts(a, b), "{a} {b}");
            }
        }
    }
}
