//! Small files as converters write them, with the numbers LiteRT's reference kernels give.

use residual_core::{Isa, geom::Shape, plan::Options, rsd::View, session::Session};

use super::{
    End, Imported, export,
    export::{Field, Writer},
    import,
    schema::{PADDING_VALID, TYPE_FLOAT32, TYPE_INT8, TYPE_INT32, TYPE_UINT8, field, operator, options},
};
use crate::quantized::Quantization;

/// Scale and zero point.
type Encoding = (f32, i64);

const MAP: [i32; 4] = [1, 2, 2, 2];

fn of(kind: i8, writer: &mut Writer, shape: &[i32], (scale, zero): Encoding) -> i32 {
    let encoding: (&[f32], i64) = (&[scale], zero);
    writer.tensor("t", shape, kind, &[], (kind != TYPE_FLOAT32).then_some(encoding))
}

fn mean(writer: &mut Writer, x: i32, axes: &[i32], encoding: Encoding) -> i32 {
    let axes = writer.integers("axes", &[axes.len() as i32], axes);
    let y = of(TYPE_INT8, writer, &[1, 1, 1, 2], encoding);
    let keep = vec![Field::I8(field::mean::KEEP_DIMS, 1)];
    writer.operator(operator::MEAN, &[x, axes], y, options::REDUCER, keep);
    y
}

/// The numbers a file gives for the bytes of one input.
fn run(file: &[u8], bytes: &[u8]) -> super::Numbers {
    let Imported { network, softmax, input, output } = import("test", file).unwrap();
    assert_eq!(softmax, None);
    let again = import("again", &export(&network).unwrap()).unwrap().network;
    let kinds = |n: &crate::quantized::Network| n.layers.iter().map(|l| l.kind.clone()).collect::<Vec<_>>();
    assert_eq!(kinds(&again), kinds(&network));
    let model = network.to_model().unwrap();
    let mut session = Session::new(&View::new_checked(&model).unwrap().net().unwrap(), &Options::default()).unwrap();
    output.to_numbers(session.run(&input.to_int8(bytes).unwrap()).unwrap())
}

/// Input, QUANTIZE, MEAN, and QUANTIZE or DEQUANTIZE.
fn with_ends(kind: i8, encodings: [Encoding; 4], axes: &[i32]) -> Vec<u8> {
    let mut writer = Writer::default();
    let x = of(kind, &mut writer, &MAP, encodings[0]);
    let q = of(TYPE_INT8, &mut writer, &MAP, encodings[1]);
    writer.operator(operator::QUANTIZE, &[x], q, 0, Vec::new());
    let y = mean(&mut writer, q, axes, encodings[2]);
    let z = of(kind, &mut writer, &[1, 1, 1, 2], encodings[3]);
    let code = if kind == TYPE_FLOAT32 { operator::DEQUANTIZE } else { operator::QUANTIZE };
    writer.operator(code, &[y], z, 0, Vec::new());
    writer.finish(x, z)
}

#[test]
fn ends_and_means_are_litert_s() {
    let file = with_ends(TYPE_FLOAT32, [(1.0, 0), (0.5, 3), (0.125, -7), (1.0, 0)], &[1, 2]);
    let reals = [-9.25f32, 0.25, 0.75, 1.26, 30.0, -70.0, 2.5, 9.99];
    let bytes: Vec<u8> = reals.iter().flat_map(|r| r.to_le_bytes()).collect();
    assert_eq!(run(&file, &bytes).to_string(), "6 -13.375");
    let imported = import("test", &file).unwrap();
    assert_eq!(imported.input, End::Float32(Quantization { scale: 0.5, zero_point: 3 }));
    assert_eq!(imported.input.to_int8(&f32::NAN.to_le_bytes()), Err(0));

    let bytes = [0, 255, 13, 20, 100, 200, 7, 90];
    let rescaled = [(0.7, 13), (1.0, -100), (0.45, -7), (0.33, 40)];
    assert_eq!(run(&with_ends(TYPE_UINT8, rescaled, &[2, 1]), &bytes).to_string(), "77 223");
    assert_eq!(run(&with_ends(TYPE_INT8, rescaled, &[-3, -2]), &bytes).to_string(), "77 56");
    let shifted = [(0.5, 0), (0.5, -128), (0.5, -128), (0.5, 0)];
    assert_eq!(run(&with_ends(TYPE_UINT8, shifted, &[-2, 1]), &bytes).to_string(), "30 142");
}

/// A map of 2x2x2 in a border, pooled with windows of 2.
fn padded_pool(code: i32, encoding: Encoding, fill: Option<i8>) -> Vec<u8> {
    let mut writer = Writer::default();
    let x = of(TYPE_INT8, &mut writer, &MAP, encoding);
    let by = writer.integers("by", &[4, 2], &[0, 0, 1, 1, 1, 1, 0, 0]);
    let padded = of(TYPE_INT8, &mut writer, &[1, 4, 4, 2], encoding);
    let mut inputs = vec![x, by];
    if let Some(fill) = fill {
        inputs.push(writer.tensor("fill", &[], TYPE_INT8, &[fill as u8], Some((&[encoding.0], encoding.1))));
    }
    writer.operator(code, &inputs, padded, 0, Vec::new());
    let y = of(TYPE_INT8, &mut writer, &[1, 2, 2, 2], encoding);
    writer.pool(operator::MAX_POOL_2D, padded, y, PADDING_VALID, 2, [2, 2]);
    writer.finish(x, y)
}

#[test]
fn pools_leave_out_padding_that_cannot_win() {
    let bytes = [128u8, 5, 7, 247, 100, 127, 3, 252];
    let network = |file: &[u8]| import("test", file).map(|i| i.network);
    for file in [padded_pool(operator::PAD, (0.1, -128), None), padded_pool(operator::PADV2, (0.1, -30), Some(-128))] {
        let model = network(&file).unwrap().to_model().unwrap();
        let view = View::new_checked(&model).unwrap();
        // Every window holds one pixel of the map.
        let pixels = bytes.map(|b| b as i8);
        assert_eq!(
            Session::new(&view.net().unwrap(), &Options { isa: Isa::best(), ..Options::default() })
                .unwrap()
                .run(&pixels)
                .unwrap(),
            pixels
        );
    }
    for (code, fill) in [(operator::PAD, None), (operator::PADV2, Some(-127))] {
        let error = network(&padded_pool(code, (0.1, -30), fill)).unwrap_err().to_string();
        let start = "test: operator 1 (MAX_POOL_2D): its input is padded with";
        assert!(error.starts_with(start) && error.contains("ReLU") && !error.contains('\n'), "{error}");
    }
    let error = network(&padded_pool(operator::MIRROR_PAD, (0.1, -128), None)).unwrap_err().to_string();
    assert!(error.starts_with("test: operator 0 (MIRROR_PAD): ") && error.contains("pad with zeros"), "{error}");
}

/// What a flattening becomes where the batch is free: `[shape(x)[0], last]`.
fn flatten(last: i32) -> Vec<u8> {
    let mut writer = Writer::default();
    let x = of(TYPE_INT8, &mut writer, &MAP, (0.5, 3));
    let y = mean(&mut writer, x, &[1, 2], (0.125, -7));
    let mut integers = |shape: &[i32]| writer.tensor("i", shape, TYPE_INT32, &[], None);
    let (shape, batch, all) = (integers(&[4]), integers(&[]), integers(&[2]));
    let (zero, one) = (writer.integers("0", &[1], &[0]), writer.integers("1", &[1], &[1]));
    let last = writer.integers("last", &[], &[last]);
    let flat = of(TYPE_INT8, &mut writer, &[1, 2], (0.125, -7));
    writer.operator(operator::SHAPE, &[y], shape, 0, Vec::new());
    let shrink = vec![Field::I32(field::strided_slice::MASKS[4], 1)];
    writer.operator(operator::STRIDED_SLICE, &[shape, zero, one, one], batch, options::STRIDED_SLICE, shrink);
    writer.operator(operator::PACK, &[batch, last], all, 0, Vec::new());
    writer.operator(operator::RESHAPE, &[y, all], flat, options::RESHAPE, Vec::new());
    writer.finish(x, flat)
}

#[test]
fn shapes_are_computed() {
    let bytes = [128u8, 5, 7, 247, 100, 127, 3, 252];
    for last in [2, -1] {
        let imported = import("test", &flatten(last)).unwrap();
        assert_eq!((imported.network.layers.len(), imported.network.value(1).unwrap().0), (1, Shape::new(1, 1, 2)));
        assert!(matches!(run(&flatten(last), &bytes), super::Numbers::Int8(values) if values.len() == 2));
    }
    let error = import("test", &flatten(3)).unwrap_err().to_string();
    assert!(error.contains("operator 4 (RESHAPE)") && error.contains("[1, 3]"), "{error}");
}

#[test]
fn what_is_not_supported_is_named() {
    let one = |code, kind, shape: &[i32]| {
        let mut writer = Writer::default();
        let x = of(kind, &mut writer, &MAP, (0.5, 3));
        let y = writer.tensor("y", shape, if shape.len() == 1 { TYPE_INT32 } else { kind }, &[], Some((&[0.5], 3)));
        writer.operator(code, &[x], y, 0, Vec::new());
        import("test", &writer.finish(x, y)).unwrap_err().to_string()
    };
    for (error, start, remedy) in [
        (one(28, TYPE_INT8, &MAP), "test: operator 0 (TANH): not supported", "CONV_2D, ADD"),
        (one(41, TYPE_INT8, &MAP), "test: operator 0 (SUB): not supported", "before converting"),
        (one(36, TYPE_INT8, &[4]), "test: operator 0 (GATHER): it computes a shape", "fixed batch of 1"),
        (one(28, TYPE_FLOAT32, &MAP), "test: tensor `t`: its type is float32", "representative_dataset"),
        (one(28, TYPE_UINT8, &MAP), "test: tensor `t`: its type is uint8", "representative_dataset"),
        (one(28, 7, &MAP), "test: tensor `t`: its type is int16", "representative_dataset"),
    ] {
        assert!(error.starts_with(start) && error.contains(remedy) && !error.contains('\n'), "{error}");
    }
}
