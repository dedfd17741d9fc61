//! Pools: windows' maxima and whole maps' means.

use residual_core::geom::Shape;

use super::{
    super::{
        flat::Table,
        schema::{activation, field, operator},
        tensor::Fault,
    },
    Reader,
    conv::{Around, window},
};
use crate::quantized::Kind;

impl<'f> Reader<'f> {
    pub(super) fn pool(&mut self, code: i32, inputs: &[i32], output: i32, options: &Table<'f>) -> Result<(), Fault> {
        let padding = options.i8(field::pool::PADDING)?;
        let Around { value, before, sizes, fill } = match code {
            operator::MAX_POOL_2D => self.around(inputs, padding)?,
            _ => Around { value: self.value(inputs)?.0, before: [0; 2], sizes: [0; 2], fill: None },
        };
        let (input, quantization) = self.network.value(value).ok_or("its input has no shape")?;
        let tensor = self.graph.tensor(output)?;
        let map = tensor.map()?;
        let filter = [options.i32(field::pool::FILTER_H, 0)?, options.i32(field::pool::FILTER_W, 0)?];
        let strides = [options.i32(field::pool::STRIDE_H, 0)?, options.i32(field::pool::STRIDE_W, 0)?];
        if options.i8(field::pool::ACTIVATION)? != activation::NONE || tensor.activation()? != quantization {
            return Err(tensor.fault("a pool must keep its input's encoding and have no activation"));
        }
        if code == operator::AVERAGE_POOL_2D {
            let whole = [input.h as i64, input.w as i64];
            if filter.map(i64::from) != whole || map != Shape::new(1, 1, input.c) {
                return Err(format!("filter {filter:?} on {input} to {map}: only the whole map is supported"));
            }
            self.push(&tensor, output, value, Kind::GlobalAveragePool);
            return Ok(());
        }
        if filter[0] != filter[1] || strides[0] != strides[1] || map.c != input.c {
            return Err(format!("filter {filter:?}, strides {strides:?}, {input} to {map}: only square ones"));
        }
        if let Some(fill) = fill.filter(|fill| *fill > self.network.least(value)) {
            return Err(format!(
                "its input is padded with {fill} and may hold less, so that padding could win: pool behind a ReLU, or \
                 pad with the least value"
            ));
        }
        let window = window(input, map, filter[0], strides[0], padding, before, sizes)?;
        self.push(&tensor, output, value, Kind::MaxPool(window));
        Ok(())
    }

    /// MEAN over rows and columns.
    pub(super) fn mean(&mut self, inputs: &[i32], output: i32) -> Result<(), Fault> {
        let &[from, axes] = inputs else { return Err(format!("{} inputs, 2 needed", inputs.len())) };
        let (value, input, _) = self.value(inputs)?;
        let (tensor, dimensions) = (self.graph.tensor(output)?, self.graph.tensor(from)?.shape.len());
        let named = self.integers(axes)?;
        let mut all: Vec<i64> = named.iter().map(|a| i64::from(*a).rem_euclid(dimensions.max(1) as i64)).collect();
        all.sort_unstable();
        all.dedup();
        let map = tensor.map()?;
        let known = named.iter().all(|axis| (-4..4).contains(axis));
        if dimensions != 4 || !known || all != [1, 2] || map != Shape::new(1, 1, input.c) {
            return Err(format!("axes {named:?} of {input} to {map}: only the mean of rows and columns is supported"));
        }
        let mean = Kind::Mean(tensor.activation()?);
        self.push(&tensor, output, value, mean);
        Ok(())
    }
}
