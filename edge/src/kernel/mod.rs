//! Convolutions and pools on slices of the arena.

#[cfg(residual_blocks)]
pub mod blocks;
#[cfg(residual_kernels = "dsp")]
pub mod columns;
pub mod direct;
pub mod pool;
#[cfg(residual_kernels = "mve")]
mod vector;
pub mod winograd;

use residual_core::quant::{Add, Conv, Encoding, Requant};

use crate::arch::{
    multiply_high,
    winograd::{Rescale, Sum},
};

/// Bytes of the two tables a shortcut addition uses.
pub const ADD_TABLES: usize = 2 * 256 * 4;

/// What tables hold terms times 2 to the power of: vectors double products, the others their factors.
const TERM_BITS: u32 = if cfg!(residual_kernels = "mve") { 0 } else { 1 };

/// Fills the tables of an addition: both of its inputs have 256 values only. Terms stay below 2^28
/// ([`Add::is_valid`]).
#[inline(never)]
pub fn fill_tables(conv: &Conv<'_>, tables: &mut [i32]) {
    let Some(add) = &conv.add else { return };
    let Some((first, second)) = tables.split_at_mut_checked(256) else { return };
    let (zero, shortcut_zero) = (i32::from(conv.output.zero_point), i32::from(add.shortcut_zero));
    fill(first, -128 - zero, add.rescale_conv);
    // In the order of the bytes.
    let (positive, negative) = second.split_at_mut_checked(128).unwrap_or_default();
    fill(positive, -shortcut_zero, add.rescale_shortcut);
    fill(negative, -128 - shortcut_zero, add.rescale_shortcut);
}

/// The terms of the values from `first` on.
#[inline(never)]
fn fill(terms: &mut [i32], first: i32, factor: Requant) {
    #[cfg(residual_kernels = "mve")]
    if let Some(fast) = Rescale::new(factor.mult, factor.shift, 0)
        && crate::arch::mve::terms(first, fast, terms)
    {
        return;
    }
    for (value, term) in (first..).zip(terms) {
        *term = scaled(factor, value) << TERM_BITS;
    }
}

/// `value` at the scale in which terms are added: [`Add::conv_term`] and [`Add::shortcut_term`].
fn scaled(factor: Requant, value: i32) -> i32 {
    let value = value << Add::LEFT_SHIFT;
    match Rescale::new(factor.mult, factor.shift, 0) {
        Some(fast) => fast.apply(value << 1),
        // Half of the common scale is one of the inputs' own: a shift of 0.
        None if factor.shift == 0 => multiply_high(value << 1, factor.mult),
        None => factor.rescale(value),
    }
}

/// Whether every int8 is in the encoding's range.
pub fn is_full(e: Encoding) -> bool {
    e.min == i8::MIN && e.max == i8::MAX
}

/// The fast addition, if the model's has one.
pub fn fast_sum<'t>(add: &Add, tables: &'t [i32]) -> Option<Sum<'t>> {
    let (conv, rest) = tables.split_first_chunk()?;
    let (shortcut, _) = rest.split_first_chunk()?;
    let rescale = Rescale::new(add.rescale_sum.mult, add.rescale_sum.shift, add.output.zero_point.into())?;
    is_full(add.output).then_some(Sum { conv, shortcut, rescale })
}

/// Writes the shortcut's `row` where the sums will be stored: option A's strided slice and zero
/// channels, or a plain copy.
#[inline(never)]
pub fn expand_row(add: &Add, row: &[i8], output: &mut [i8], channels: usize) -> Option<()> {
    let c = add.shortcut.c;
    if c == channels && add.stride == 1 {
        output.iter_mut().zip(row).for_each(|(y, x)| *y = *x);
        return Some(());
    }
    output.fill(add.shortcut_zero);
    let (mut pixels, mut rest) = (output, row);
    while !pixels.is_empty() {
        let (pixel, others) = pixels.split_at_mut_checked(channels)?;
        let own = pixel.get_mut(add.before..)?.get_mut(..c)?;
        own.iter_mut().zip(rest).for_each(|(y, x)| *y = *x);
        pixels = others;
        rest = rest.get(add.stride * c..).unwrap_or_default();
    }
    Some(())
}
