//! PAD, PADV2 and STRIDED_SLICE: what they do becomes part of the op that reads them.

use residual_core::geom::Shape;

use super::{
    super::{flat::Table, schema::field, tensor::Fault},
    Reader, Source,
};

impl<'f> Reader<'f> {
    pub(super) fn pad(&mut self, inputs: &[i32], output: i32) -> Result<(), Fault> {
        let (&[from, by] | &[from, by, _]) = inputs else {
            return Err(format!("{} inputs, 2 or 3 needed", inputs.len()));
        };
        let (tensor, from) = (self.graph.tensor(output)?, self.graph.tensor(from)?);
        let pads = self.integers(by)?;
        if pads.len() != 8 || pads.iter().any(|p| !(0..=1 << 14).contains(p)) || pads[..2] != [0, 0] {
            return Err(format!("padding {pads:?}: four pairs without a sign, none for the batch, needed"));
        }
        let pad = |i: usize| pads[i] as usize;
        let (input, map) = (from.map()?, tensor.map()?);
        let padded = Shape::new(input.h + pad(2) + pad(3), input.w + pad(4) + pad(5), input.c + pad(6) + pad(7));
        if map != padded || tensor.activation()? != from.activation()? {
            return Err(tensor.fault(format_args!("{map}, where padding {input} gives {padded}, or another encoding")));
        }
        let zero = from.activation()?.zero_point;
        let fill = inputs.get(2).map_or(Ok(zero), |constant| self.graph.tensor(*constant)?.byte())?;
        let source = match self.source(inputs)? {
            Source::Value(value) if pads[6..] == [0, 0] => {
                Source::Padded { value, before: [pad(2), pad(4)], after: [pad(3), pad(5)], fill }
            }
            _ if fill != zero => {
                return Err(format!("channels are padded with {fill}, only 0.0, which is {zero}, can be"));
            }
            Source::Value(value) if pads[2..6] == [0; 4] => Source::Sliced { value, stride: 1, before: pad(6) },
            Source::Sliced { value, stride, before } if pads[2..6] == [0; 4] => {
                Source::Sliced { value, stride, before: before + pad(6) }
            }
            _ => return Err(format!("padding {pads:?} of rows or columns and channels at once is not supported")),
        };
        self.sources.insert(output, source);
        Ok(())
    }

    pub(super) fn slice(&mut self, inputs: &[i32], output: i32, options: &Table<'f>) -> Result<(), Fault> {
        let (value, input, quantization) = self.value(inputs)?;
        let tensor = self.graph.tensor(output)?;
        let &[_, begin, end, strides] = inputs else { return Err(format!("{} inputs, 4 needed", inputs.len())) };
        let integers = |tensor| self.integers(tensor);
        let (begin, end, strides) = (integers(begin)?, integers(end)?, integers(strides)?);
        let mut masks = [0; 5];
        for (mask, at) in masks.iter_mut().zip(field::strided_slice::MASKS) {
            *mask = options.i32(at, 0)?;
        }
        let sizes = [1, input.h, input.w, input.c];
        let whole = |axis: usize| {
            let masked = |mask: i32| mask >> axis & 1 == 1;
            (masked(masks[0]) || begin.get(axis) == Some(&0))
                && (masked(masks[1]) || end.get(axis).is_some_and(|e| *e as i64 == sizes[axis] as i64))
        };
        let four = [&begin, &end, &strides].iter().all(|v| v.len() == 4);
        if !four || masks[2..] != [0; 3] || !(0..4).all(whole) {
            return Err("only slices of a whole map are supported".into());
        }
        let stride = match strides[..] {
            [1, a, b, 1] if a == b && (1..=64).contains(&a) => a as usize,
            _ => return Err(format!("strides {strides:?}: equal ones of rows and columns, 1 to 64, needed")),
        };
        let map = Shape::new(input.h.div_ceil(stride), input.w.div_ceil(stride), input.c);
        if tensor.map()? != map || tensor.activation()? != quantization {
            return Err(tensor.fault(format_args!("the slice of {input} must be {map} and keep its encoding")));
        }
        self.sources.insert(output, Source::Sliced { value, stride, before: 0 });
        Ok(())
    }
}
