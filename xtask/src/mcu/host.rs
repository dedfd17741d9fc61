//! Pictures and the outputs the definition gives for them.

use anyhow::{Context, Result};
use residual_core::{quant::reference, rsd::View};

/// `len` pseudo-random bytes, always the same.
pub fn pictures(len: usize) -> Vec<i8> {
    let mut state = 0x2545_f491u32;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as i8
    };
    (0..len).map(|_| draw()).collect()
}

/// The output the definition gives.
pub fn definition(view: &View<'_>, input: &[i8]) -> Result<Vec<i8>> {
    let mut values = vec![input.to_vec()];
    for i in 0..view.ops() {
        let op = view.op(i).context("a checked op")?;
        let mut y = vec![0; op.output().elements()];
        let source = view.source(i).context("a checked source")?;
        let shortcut = view.shortcut(i).map_or(&[][..], |s| &values[s]);
        reference::execute(&op, &values[source], shortcut, &mut y)?;
        values.push(y);
    }
    values.pop().context("a model has an output")
}
