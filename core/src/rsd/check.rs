//! What the values and ops of a model must keep, so that nothing is left to fail when it runs.

use super::{
    ALIGN, FormatError,
    sound::conv_is_sound,
    view::{Value, View},
};
use crate::{geom::Shape, quant::Op};

impl View<'_> {
    /// Checks every value, then every op.
    pub(super) fn check(&self) -> Result<(), FormatError> {
        for index in 0..=self.ops() {
            self.check_value(index)?;
        }
        for index in 0..self.ops() {
            self.check_op(index).map_err(|reason| FormatError::Op { index, reason })?;
        }
        Ok(())
    }

    fn check_value(&self, index: usize) -> Result<(), FormatError> {
        let fail = |reason| Err(FormatError::Value { index, reason });
        let Some(value) = self.value(index) else { return fail("outside its section") };
        let Shape { h, w, c } = value.shape;
        let side = |n: usize| (1..=1 << 14).contains(&n);
        if !side(h) || !side(w) || !(1..=1 << 16).contains(&c) || h as u64 * w as u64 * c as u64 >= 1 << 30 {
            return fail("a side must be in 1..=16384, channels in 1..=65536, elements below 2^30");
        }
        if value.offset > self.arena || value.shape.elements() > self.arena - value.offset {
            return fail("outside the arena");
        }
        if !value.offset.is_multiple_of(4) {
            return fail("its arena offset must be a multiple of 4");
        }
        if !(value.scale.is_finite() && value.scale > 0.0) {
            return fail("its scale must be positive and finite");
        }
        Ok(())
    }

    fn check_op(&self, index: usize) -> Result<(), &'static str> {
        let source = self.source(index).filter(|s| *s <= index).ok_or("it reads a value that does not exist yet")?;
        let shortcut = self.shortcut(index);
        if shortcut.is_some_and(|s| s > index) {
            return Err("it adds a value that does not exist yet");
        }
        let op = self.op(index).ok_or("unknown kind, invalid geometry, or a tensor outside the file")?;
        let (x, y) = (self.value(source).ok_or("no input")?, self.value(index + 1).ok_or("no output")?);
        if op.input() != x.shape || op.output() != y.shape {
            return Err("its output has another shape than its input and parameters give");
        }
        match op {
            Op::Conv(conv) => {
                // Fast kernels read weights four at a time.
                if !conv.weights.as_ptr().addr().is_multiple_of(ALIGN) {
                    return Err("the offset of its weights must be a multiple of 4");
                }
                conv_is_sound(&conv)?;
                if conv.stored().zero_point != y.zero_point {
                    return Err("its output's zero point is not its value's");
                }
            }
            Op::MaxPool(window) => {
                if !window.is_valid() || window.input.c != window.output.c {
                    return Err("invalid pooling window");
                }
            }
            Op::GlobalAveragePool(_) => {}
            Op::Mean(mean) => {
                if !mean.is_valid() {
                    return Err(
                        "a mean's multiplier must not be negative, its shift in -31..=30, its map up to 2^23 pixels",
                    );
                }
            }
        }
        let keeps = matches!(op, Op::MaxPool(_) | Op::GlobalAveragePool(_));
        if keeps && (x.zero_point, x.scale) != (y.zero_point, y.scale) {
            return Err("a pool keeps its input's encoding");
        }
        if !matches!(op, Op::Conv(_)) && shortcut.is_some() {
            return Err("only a convolution adds a shortcut");
        }
        if overlap(&x, &y) {
            return Err("its output overlaps its input");
        }
        self.is_intact(source, index)?;
        if let Some(shortcut) = shortcut {
            let s = self.value(shortcut).ok_or("no shortcut")?;
            let in_place = s.offset == y.offset && s.shape == y.shape;
            if overlap(&s, &y) && !in_place {
                return Err("its output overlaps its shortcut without being in its place");
            }
            self.is_intact(shortcut, index)?;
        }
        Ok(())
    }

    /// Whether `value` still holds its data when op `at` reads it.
    fn is_intact(&self, value: usize, at: usize) -> Result<(), &'static str> {
        let v = self.value(value).ok_or("no value")?;
        // Value `i + 1` is written by op `i`: those after `value` and up to op `at - 1`.
        let clobbered = (value + 1..=at).any(|later| self.value(later).is_none_or(|l| overlap(&v, &l)));
        if clobbered { Err("a value it reads has been overwritten") } else { Ok(()) }
    }
}

fn overlap(a: &Value, b: &Value) -> bool {
    a.range().start < b.range().end && b.range().start < a.range().end
}
