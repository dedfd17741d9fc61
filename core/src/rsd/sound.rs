//! What a convolution of a model must keep, so that nothing computed from it overflows.

use crate::quant::{Conv, Encoding, Requant, Rounding};

/// Checks geometry, lengths, factors and ranges.
pub(super) fn conv_is_sound(conv: &Conv<'_>) -> Result<(), &'static str> {
    if !conv.window.is_valid() || !conv.is_consistent() {
        return Err("invalid convolution geometry");
    }
    let factors = conv.mult.iter().zip(conv.shift);
    if !factors.clone().all(|(&mult, &shift)| Requant { mult, shift }.is_valid()) {
        return Err("a multiplier must be 0 or in 2^30..2^31, its shift in -31..=30");
    }
    // Accumulators stay below 2^30, so doubling one cannot overflow.
    let sum = conv.window.taps() as u64 * 128 * 255;
    if conv.bias.iter().any(|b| sum + u64::from(b.unsigned_abs()) >= 1 << 30) {
        return Err("its sums may reach 2^30: bias too large or too many taps");
    }
    let encoded = |e: Encoding| e.min <= e.max;
    if !encoded(conv.output) || conv.add.is_some_and(|add| !encoded(add.output)) {
        return Err("the smallest output exceeds the largest");
    }
    let map = conv.window.input;
    if conv.rounding == Rounding::Once && (map.h * map.w > 1 || conv.window.kernel > 1 || conv.add.is_some()) {
        return Err("only fully connected layers round once");
    }
    if conv.add.is_some_and(|add| !add.is_valid(conv.window.output)) {
        return Err("invalid shortcut addition");
    }
    Ok(())
}
