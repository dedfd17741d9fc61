//! A model file as a network to plan and run on a host.

use super::{Value, View};
use crate::{
    Error, Name,
    graph::{self, Builder, Net, ValueId},
    quant::{Conv, Op, Quantization},
};

impl<'m> View<'m> {
    /// The model as a [`Net`], which borrows its weights. Its ops are called as the model calls them; where a convolution
    /// adds a shortcut of another shape, an op `NAME.shortcut` before it brings that to the output's shape.
    ///
    /// # Errors
    /// [`Error::InvalidNetwork`] for an op that this library does not know.
    pub fn net(&self) -> Result<Net<'m>, Error> {
        let value = |index: usize| self.value(index).ok_or(UNKNOWN);
        let mut net = Builder::of(self.architecture().unwrap_or_default(), int8(value(0)?));
        // The net's number of every value of the model.
        let mut values = alloc::vec![ValueId::INPUT];
        let at = |values: &[ValueId], index: Option<usize>| index.and_then(|i| values.get(i)).copied().ok_or(UNKNOWN);
        for index in 0..self.ops() {
            let name = match self.name(index) {
                Some(name) if !name.is_empty() => Name::new(name),
                _ => Name::new(format_args!("op{index}")),
            };
            let source = at(&values, self.source(index))?;
            let output = match self.op(index).ok_or(UNKNOWN)? {
                Op::Conv(conv) => {
                    let shortcut = self.shortcut(index).map(|s| at(&values, Some(s))).transpose()?;
                    let (conv, shortcut) = with_shortcut(&mut net, name, conv, shortcut)?;
                    net.int8_conv(name, source, conv, shortcut, quantization(value(index + 1)?))?
                }
                Op::MaxPool(window) => net.max_pool(name, source, window)?,
                Op::GlobalAveragePool(_) => net.average_pool(name, source)?,
                Op::Mean(mean) => net.mean(name, source, mean, quantization(value(index + 1)?))?,
            };
            values.push(output);
        }
        net.finish(&[*values.last().unwrap_or(&ValueId::INPUT)])
    }
}

const UNKNOWN: Error = Error::InvalidNetwork { reason: "an op of the model is not known here" };

fn quantization(value: Value) -> Quantization {
    Quantization { scale: value.scale, zero_point: value.zero_point }
}

fn int8(value: Value) -> graph::Value {
    graph::Value::int8(value.shape, quantization(value))
}

/// Brings a shortcut of another shape to the output's, before `conv` adds it.
fn with_shortcut<'m>(
    net: &mut Builder<'m>,
    name: Name,
    mut conv: Conv<'m>,
    shortcut: Option<ValueId>,
) -> Result<(Conv<'m>, Option<ValueId>), Error> {
    let output = conv.window.output;
    let (Some(add), Some(from)) = (&mut conv.add, shortcut) else { return Ok((conv, None)) };
    if add.shortcut == output && add.stride == 1 && add.before == 0 {
        return Ok((conv, shortcut));
    }
    let after = output.c.checked_sub(add.shortcut.c + add.before).ok_or(UNKNOWN)?;
    let padded = net.subsample(name.dot("shortcut"), from, add.stride, [add.before, after])?;
    (add.shortcut, add.stride, add.before) = (output, 1, 0);
    Ok((conv, Some(padded)))
}
