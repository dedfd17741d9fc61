//! Convolutions and pools on slices of the arena.

pub mod direct;
pub mod pool;
pub mod winograd;

use residual_core::quant::{Add, Conv, Encoding};

use crate::arch::winograd::{Rescale, Sum};

/// Bytes of the two tables a shortcut addition uses.
pub const ADD_TABLES: usize = 2 * 256 * 4;

/// Fills the tables of an addition, twice every term: both of its inputs have 256 values only. Terms
/// stay below 2^28 ([`Add::is_valid`]).
#[inline(never)]
pub fn fill_tables(conv: &Conv<'_>, tables: &mut [i32]) {
    let Some(add) = &conv.add else { return };
    let Some((first, second)) = tables.split_at_mut_checked(256) else { return };
    for (i, term) in first.iter_mut().enumerate() {
        *term = add.conv_term((i as i32 - 128) as i8, conv.output.zero_point) << 1;
    }
    for (i, term) in second.iter_mut().enumerate() {
        *term = add.shortcut_term(i as u8 as i8) << 1;
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

/// Writes the shortcut of every output of `rows` where the sum will be stored: option A's strided
/// slice and zero channels, or a plain copy.
#[inline(never)]
pub fn expand_shortcut(conv: &Conv<'_>, shortcut: &[i8], output: &mut [i8]) -> Option<()> {
    let add = conv.add.as_ref()?;
    let out = conv.window.output;
    let c = add.shortcut.c;
    for (y, row) in output.chunks_exact_mut(out.w * out.c).enumerate() {
        let start = y * add.stride * add.shortcut.w * c;
        let source = shortcut.get(start..)?.chunks_exact(c).step_by(add.stride);
        for (pixel, source) in row.chunks_exact_mut(out.c).zip(source) {
            pixel.fill(add.shortcut_zero);
            let own = pixel.get_mut(add.before..)?.get_mut(..c)?;
            own.iter_mut().zip(source).for_each(|(y, x)| *y = *x);
        }
    }
    Some(())
}
