use super::{AlignedBytes, FormatError, View, layout, synthetic};
use crate::{
    quant::{Op, reference},
    resnet::ResNet,
};

fn model(name: &str) -> AlignedBytes {
    synthetic(&name.parse::<ResNet>().unwrap(), 7).unwrap()
}

/// Makes the checksum right again, so that the checks behind it are reached.
fn sign(bytes: &mut [u8]) {
    if let Some(rest) = bytes.get(layout::CHECKSUM_AT + 4..) {
        let sum = layout::checksum(rest);
        bytes[layout::CHECKSUM_AT..][..4].copy_from_slice(&sum.to_le_bytes());
    }
}

#[test]
fn resnet20_is_read_back_as_it_was_written() {
    let bytes = model("resnet20-cifar");
    let view = View::new_checked(&bytes).unwrap();
    assert_eq!((view.ops(), view.architecture()), (21, Some("resnet20-cifar")));
    assert_eq!((view.name(0), view.name(18), view.name(20)), (Some("conv1"), Some("layer3.2.conv2"), Some("fc")));
    let macs: u64 = (0..view.ops()).filter_map(|i| view.op(i)).map(|op| op.macs()).sum();
    assert_eq!(macs, "resnet20-cifar".parse::<ResNet>().unwrap().macs());
    // Two maps of 32x32x16 and nothing more.
    assert_eq!(view.arena_bytes(), 2 * 16384);
    assert!(bytes.len() < 270_000 + 16_000, "{} bytes", bytes.len());
}

#[test]
fn every_architecture_can_be_written() {
    for name in [
        "resnet20-cifar-Ac",
        "resnet20-cifar-B",
        "resnet20-cifar-C",
        "plain20-cifar",
        "resnet29-cifar-bottleneck",
        "resnet18",
        "resnet50-v1",
    ] {
        let bytes = model(name);
        let view = View::new_checked(&bytes).unwrap();
        assert_eq!(view.architecture(), Some(name));
    }
}

/// Runs a model on a plain arena with the definition and reports how spread each value is.
#[test]
fn synthetic_activations_neither_vanish_nor_saturate() {
    let bytes = model("resnet56-cifar");
    let view = View::new_checked(&bytes).unwrap();
    let mut values: Vec<Vec<i8>> = vec![(0..32 * 32 * 3).map(|i| (i * 37 % 251) as u8 as i8).collect()];
    for i in 0..view.ops() {
        let op = view.op(i).unwrap();
        let mut y = vec![0; op.output().elements()];
        let shortcut = view.shortcut(i).map_or(&[][..], |s| &values[s]);
        reference::execute(&op, &values[view.source(i).unwrap()], shortcut, &mut y).unwrap();
        if let Op::Conv(conv) = op {
            let edge = |v: &&i8| **v == conv.stored().min || **v == conv.stored().max;
            let distinct = y.iter().collect::<std::collections::HashSet<_>>().len();
            let share = y.iter().filter(edge).count() as f64 / y.len() as f64;
            assert!(distinct > 30.min(y.len() / 3) && share < 0.8, "op {i}: {distinct} values, {share} at the ends");
        }
        values.push(y);
    }
}

#[test]
fn every_damaged_byte_is_noticed() {
    let bytes = model("resnet20-cifar-w1");
    for at in 0..bytes.len() {
        let mut copy = bytes.clone();
        copy[at] ^= 1 << (at % 8);
        assert!(View::new_checked(&copy).is_err(), "byte {at}");
    }
    for len in [0, 1, 31, 32, 100, bytes.len() - 1] {
        assert!(View::new_checked(&bytes[..len]).is_err(), "{len} bytes");
    }
    let mut moved = AlignedBytes::zeroed(bytes.len() + 1);
    moved[1..].copy_from_slice(&bytes);
    assert_eq!(View::new_checked(&moved[1..]).unwrap_err(), FormatError::Misaligned { by: 1 });
}

/// Every 32-bit field before the tensors, replaced by hostile values under a valid checksum: either
/// an error or a model that can be walked and computed.
#[test]
fn hostile_fields_are_refused_or_harmless() {
    let bytes = model("resnet8-cifar-w2");
    let Some(Op::Conv(first)) = View::new_checked(&bytes).unwrap().op(0) else { panic!("conv first") };
    let tables = first.weights.as_ptr().addr() - bytes.as_ptr().addr();
    let (mut refused, mut accepted) = (0, 0);
    for at in (20..tables).step_by(4) {
        for hostile in [0, 1, 3, 127, 255, 1 << 14, 1 << 20, 1 << 30, u32::MAX, u32::MAX / 2] {
            let mut copy = bytes.clone();
            copy[at..at + 4].copy_from_slice(&hostile.to_le_bytes());
            sign(&mut copy);
            match View::new_checked(&copy) {
                Err(e) => {
                    refused += 1;
                    assert!(!e.to_string().contains('\n'));
                }
                Ok(view) => {
                    accepted += 1;
                    let _ = (view.preprocessing(), view.classes().count());
                    for i in 0..view.ops() {
                        assert!(view.op(i).is_some() && view.last_use(i) <= view.ops());
                    }
                }
            }
        }
    }
    assert!(refused > 1000 && accepted > 0, "{refused} refused, {accepted} accepted");
}

/// Fast kernels read words; a model that passes its checks must not fail in one of them.
#[test]
fn misaligned_weights_are_refused() {
    let bytes = model("resnet8-cifar-w3");
    let view = View::new_checked(&bytes).unwrap();
    let records = view.ops.as_ptr().addr() - bytes.as_ptr().addr();
    for op in (0..view.ops()).filter(|op| matches!(view.op(*op), Some(Op::Conv(_)))) {
        let at = records + op * layout::OP + 4 * layout::field::WEIGHTS;
        let offset = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        for by in 1..5 {
            let mut copy = bytes.clone();
            copy[at..at + 4].copy_from_slice(&(offset - 8 + by).to_le_bytes());
            sign(&mut copy);
            let error = View::new_checked(&copy).err();
            let reason = "the offset of its weights must be a multiple of 4";
            assert_eq!(error, (by < 4).then_some(FormatError::Op { index: op, reason }), "{by} bytes");
        }
    }
}

#[test]
fn overwriting_a_live_value_is_refused() {
    let bytes = model("resnet8-cifar");
    let view = View::new_checked(&bytes).unwrap();
    let table = view.values.as_ptr().addr() - bytes.as_ptr().addr();
    // Value 2 is the inside of the first block; value 1 is still needed by its shortcut.
    let mut copy = bytes.clone();
    let victim = (view.value(1).unwrap().offset as u32).to_le_bytes();
    copy[table + 2 * layout::VALUE + 12..][..4].copy_from_slice(&victim);
    sign(&mut copy);
    let error = View::new_checked(&copy).unwrap_err();
    assert_eq!(error.to_string(), "op 1: its output overlaps its input");
}

#[test]
fn both_checksums_agree() {
    let bytes: Vec<u8> = (0..999u32).map(|i| (i * i / 3) as u8).collect();
    for len in [0, 1, 2, 9, 256, 999] {
        assert_eq!(layout::checksum(&bytes[..len]), layout::checksum_by_halves(&bytes[..len]));
    }
    assert_eq!(layout::checksum_by_halves(b"123456789"), 0xcbf4_3926);
}
