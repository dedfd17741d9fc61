//! RESHAPE, and the operators that compute its shape in files with a free batch size.

use super::{
    super::{flat::Table, schema::field, tensor::Fault},
    Reader, Source,
};

impl<'f> Reader<'f> {
    /// Integers that are constant or were computed.
    pub(super) fn integers(&self, tensor: i32) -> Result<Vec<i32>, Fault> {
        match self.integers.get(&tensor) {
            Some(values) => Ok(values.clone()),
            None => self.graph.tensor(tensor)?.integers(),
        }
    }

    pub(super) fn reshape(&mut self, inputs: &[i32], output: i32) -> Result<(), Fault> {
        let (value, input, quantization) = self.value(inputs)?;
        let tensor = self.graph.tensor(output)?;
        if tensor.map()? != input || tensor.activation()? != quantization {
            let shape = &tensor.shape;
            return Err(tensor.fault(format_args!(
                "{input} becomes {shape:?}: only 1x1 maps become vectors; pool over the whole map first"
            )));
        }
        if let Some(shape) = inputs.get(1).and_then(|shape| self.integers(*shape).ok()) {
            let fits = |(asked, is): (&i32, &i32)| *asked == -1 || asked == is;
            if shape.len() != tensor.shape.len() || !shape.iter().zip(&tensor.shape).all(fits) {
                return Err(tensor.fault(format_args!("it is asked for shape {shape:?} and says {:?}", tensor.shape)));
            }
        }
        self.sources.insert(output, Source::Value(value));
        Ok(())
    }

    /// The shape of a value for a batch of 1.
    pub(super) fn shape(&mut self, inputs: &[i32], output: i32) -> Result<(), Fault> {
        self.source(inputs)?;
        let tensor = self.graph.tensor(inputs.first().copied().unwrap_or(-1))?;
        tensor.map()?;
        self.integers.insert(output, tensor.shape);
        Ok(())
    }

    /// A slice of a list of integers.
    pub(super) fn slice_integers(&mut self, inputs: &[i32], output: i32, options: &Table<'f>) -> Result<(), Fault> {
        let &[list, begin, end, strides] = inputs else { return Err(format!("{} inputs, 4 needed", inputs.len())) };
        let list = self.integers(list)?;
        let one = |tensor: i32| match self.integers(tensor)?.as_slice() {
            &[value] => Ok(i64::from(value)),
            values => Err(format!("{values:?}: one number for a list needed")),
        };
        let (begin, end, stride) = (one(begin)?, one(end)?, one(strides)?);
        let mut masks = [0; 5];
        for (mask, at) in masks.iter_mut().zip(field::strided_slice::MASKS) {
            *mask = options.i32(at, 0)? & 1;
        }
        let [from_start, to_end, ellipsis, new_axis, single] = masks;
        let len = list.len() as i64;
        let place = |at: i64| (if at < 0 { at + len } else { at }).clamp(0, len);
        let from = if from_start == 1 { 0 } else { place(begin) };
        let to = match (single, to_end) {
            (1, _) => (from + 1).min(len),
            (_, 1) => len,
            _ => place(end),
        };
        if ellipsis + new_axis > 0 || stride < 1 || from >= to {
            return Err(format!("{begin} to {end} by {stride} of {list:?}: only forward slices that hold something"));
        }
        let values = list[from as usize..to as usize].iter().step_by(stride as usize).copied().collect();
        self.integers.insert(output, values);
        Ok(())
    }

    /// Numbers as a list.
    pub(super) fn pack(&mut self, inputs: &[i32], output: i32) -> Result<(), Fault> {
        let mut list = Vec::with_capacity(inputs.len());
        for tensor in inputs {
            match self.integers(*tensor)?.as_slice() {
                &[value] => list.push(value),
                values => return Err(format!("{values:?}: only single numbers are packed")),
            }
        }
        self.integers.insert(output, list);
        Ok(())
    }
}
