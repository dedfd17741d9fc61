//! Passes over the pixels of NHWC maps with parameters per channel: batch norm, forward and backward.
//!
//! Channels are walked in groups of a few vectors, whose parameters and sums stay in registers while
//! all pixels pass. Where several pixels fill a group exactly, they are taken as one wider pixel.

mod passes;
mod walk;

use super::{isa::Isa, vector::dispatch};
use crate::geom::reach;
use passes::{Affine, Combine, GradientSums, Moments, RawGate};
use walk::{PerChannel, Walk};

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
    assert!(pixel >= c && y.len() >= reach([(x.len() / c - 1, pixel), (c, 1)]), "output too short");
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
    // SAFETY: the maps are equally many whole pixels of `c` channels, and each parameter or sum has one element a channel.
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
    // SAFETY: the maps are equally many whole pixels of `c` channels, and each parameter or sum has one element a channel.
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
    // SAFETY: the maps are equally many whole pixels of `c` channels, and each parameter or sum has one element a channel.
    unsafe { dispatch(isa, Walk { pass: &mut pass, len: x.len(), c, tile: true }) }
}

fn check(len: usize, c: usize, per_channel: &[usize]) {
    assert!(c > 0 && len.is_multiple_of(c), "{len} elements are not pixels of {c} channels");
    assert!(per_channel.iter().all(|&n| n == c), "per-channel slices of {per_channel:?} elements for {c} channels");
}
