//! Models with hostile fields under a valid checksum: refused, or computed as the definition says.

use residual_core::{
    quant::{Op, reference},
    resnet::ResNet,
    rsd::{AlignedBytes, View, synthetic},
};
use residual_edge::{Engine, Fast, Mode, Small, arena_bytes};

/// CRC-32 as in zip.
fn checksum(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

fn definition(view: &View<'_>, input: &[i8]) -> Vec<i8> {
    let mut values = vec![input.to_vec()];
    for i in 0..view.ops() {
        let op = view.op(i).unwrap();
        let mut y = vec![0; op.output().elements()];
        let shortcut = view.shortcut(i).map_or(&[][..], |s| &values[s]);
        reference::execute(&op, &values[view.source(i).unwrap()], shortcut, &mut y).unwrap();
        values.push(y);
    }
    values.pop().unwrap()
}

/// Whether the engine gives the definition's bytes; a model may need more memory than there is.
fn agrees<M: Mode>(model: &[u8]) -> bool {
    let view = View::new_checked(model).unwrap();
    let need = arena_bytes::<M>(model).unwrap();
    if need > 1 << 24 {
        return false;
    }
    let mut arena = AlignedBytes::zeroed(need);
    let mut engine = Engine::<M>::new(model, &mut arena).unwrap();
    let input: Vec<i8> = (0..view.input().unwrap().shape.elements()).map(|i| (i * 37) as i8).collect();
    engine.input_mut().copy_from_slice(&input);
    assert_eq!(engine.run().unwrap().values, definition(&view, &input));
    true
}

/// Every word before the tensors, changed a little and much, one or two at a time.
#[test]
fn models_that_are_not_refused_can_be_run() {
    let net = "resnet8-cifar-w2".parse::<ResNet>().unwrap().with_input(6, 6).unwrap();
    let model = synthetic(&net, 5).unwrap();
    let tables = View::new_checked(&model).unwrap().op(0).map(|op| match op {
        Op::Conv(conv) => conv.weights.as_ptr().addr() - model.as_ptr().addr(),
        _ => model.len(),
    });
    let words = tables.unwrap() / 4;
    let (mut seed, mut ran) = (1u32, 0);
    let mut draw = |n: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % n
    };
    for _ in 0..20_000 {
        let mut copy = model.clone();
        for _ in 0..=draw(2) {
            let at = 4 * (6 + draw(words - 6));
            let word = u32::from_le_bytes(copy[at..at + 4].try_into().unwrap());
            let change = [1, 2, 3, 4, u32::MAX, 1 << draw(32)][draw(6)];
            copy[at..at + 4].copy_from_slice(&word.wrapping_add(change).to_le_bytes());
        }
        let sum = checksum(&copy[20..]);
        copy[16..20].copy_from_slice(&sum.to_le_bytes());
        if View::new_checked(&copy).is_ok() {
            ran += usize::from(agrees::<Fast>(&copy) && agrees::<Small>(&copy));
        }
    }
    assert!(ran > 1000, "{ran} ran");
}
