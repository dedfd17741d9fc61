//! Files as PyTorch and safetensors write them.

use std::{collections::BTreeMap, fs};

use residual_core::weights::{Elements, Tensor, Weights};

use super::{super::*, *};

fn counting(n: usize) -> Vec<f32> {
    (0..n).map(|v| v as f32).collect()
}

#[test]
fn pytorch_tensors_of_every_kind_in_both_formats() {
    for (name, format) in [("zip.pt", Format::TorchZip), ("legacy.pt", Format::TorchLegacy)] {
        let file = WeightFile::open(fixture_path(name)).unwrap();
        assert_eq!((file.format(), file.state_dict_key(), file.names().len()), (format, None, 12));
        for float in ["f32", "f16", "bf16", "f64"] {
            assert_eq!(tensor(&file, float), (vec![2, 3], counting(6)), "{name} {float}");
        }
        for (view, shape, data) in [
            ("scalar", vec![], vec![7.0]),
            ("empty", vec![0, 3], vec![]),
            ("parameter", vec![2, 2], counting(4)),
            ("transposed", vec![3, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]),
            ("offset", vec![2, 3], counting(12)[6..].to_vec()),
            ("strided", vec![2, 2], vec![6.0, 9.0, 18.0, 21.0]),
            ("expanded", vec![2, 2], vec![5.0; 4]),
        ] {
            assert_eq!(tensor(&file, view), (shape, data), "{name} {view}");
        }
        let (shape, data) = tensor(&file, "permuted");
        assert_eq!(shape, [4, 2, 3]);
        for (i, v) in data.iter().enumerate() {
            let (a, b, c) = (i / 6, i / 3 % 2, i % 3);
            assert_eq!(*v, (b * 12 + c * 4 + a) as f32, "{name} at {i}");
        }
    }
}

#[test]
fn checkpoints_give_their_state_dict_under_plain_names() {
    for name in ["checkpoint-zip.pt", "checkpoint-legacy.pt"] {
        let file = read(&fixture(name)).unwrap();
        assert_eq!(file.state_dict_key(), Some("state_dict"));
        let names: Vec<_> = file.names().collect();
        assert_eq!(
            names,
            ["bn.bias", "bn.running_mean", "bn.running_var", "bn.weight", "conv.bias", "conv.weight", "fc.weight"]
        );
        assert_eq!(tensor(&file, "conv.weight"), (vec![1, 1, 1, 1], vec![2.0]));
        assert_eq!(file.shape("fc.weight"), Some(&[2, 1][..]));
    }
    let file = read(&fixture("model-key.pt")).unwrap();
    assert_eq!((file.state_dict_key(), file.names().collect::<Vec<_>>()), (Some("model"), vec!["a"]));
    for name in ["protocol4.pt", "protocol4-legacy.pt"] {
        let file = read(&fixture(name)).unwrap();
        assert_eq!((file.state_dict_key(), tensor(&file, "a")), (Some("net"), (vec![2], vec![0.0, 1.0])));
    }
}

#[test]
fn wrappers_prefixes_are_dropped() {
    for (raw, plain) in [
        ("module._orig_mod.conv1.weight", "conv1.weight"),
        ("module.module.linear.bias", "fc.bias"),
        ("layer1.0.shortcut.0.weight", "layer1.0.downsample.0.weight"),
        ("linear1.weight", "linear1.weight"),
    ] {
        assert_eq!(store::canonical(raw), plain);
    }
}

#[test]
fn python_2_strings_lists_of_pairs_and_nested_views_are_read() {
    // OrderedDict([["w", tensor]]) with byte strings, as Python 2 pickles it.
    let asm = Asm::new().global("collections", "OrderedDict").raw(b"((]U\x01w");
    let asm = asm.tensor("FloatStorage", 4, 1, &[2], &[2]).raw(b"eltR.");
    // `]...e` needs its mark: rebuild with explicit ones.
    assert!(read(&torch_zip(&asm, &floats(counting(4)))).is_err());
    let asm = Asm::new().global("collections", "OrderedDict").raw(b"(((U\x01w");
    let asm = asm.tensor("FloatStorage", 4, 1, &[2], &[2]).raw(b"lltR.");
    let file = read(&torch_zip(&asm, &floats(counting(4)))).unwrap();
    assert_eq!(tensor(&file, "w"), (vec![2], vec![1.0, 3.0]));
}

#[test]
fn legacy_storage_views_begin_inside_their_storage() {
    let view = Asm::new().raw(b"}").str("w").global("torch._utils", "_rebuild_tensor").raw(b"((");
    let view = view.str("storage").global("torch", "FloatStorage").str("9").str("cpu").int(6);
    let view = view.raw(b"(").str("8").int(2).int(3).raw(b"ttQ").int(1).ints(&[2]).ints(&[1]).raw(b"tRs.");
    let mut file = Asm::new().raw(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.").0;
    file.extend(Asm::new().int(1001).raw(b".").0);
    file.extend(Asm::new().raw(b"}").str("little_endian").raw(b"\x88s.").0);
    file.extend(&view.0);
    file.extend(Asm::new().raw(b"](").str("9").raw(b"e.").0);
    file.extend(6u64.to_le_bytes());
    file.extend(floats(counting(6)));
    let read_file = read(&file).unwrap();
    assert_eq!(tensor(&read_file, "w"), (vec![2], vec![3.0, 4.0]));
    // The same file from a big-endian machine.
    let at = file.windows(2).position(|w| w == b"\x88s").unwrap();
    file[at] = 0x89;
    assert!(refusal(&file).contains("big-endian"), "{}", refusal(&file));
}

#[test]
fn zip64_entries_and_any_alignment_are_read() {
    let asm = Asm::dict("w", 3, 0, &[3], &[1]);
    let data = floats(counting(3));
    for options in [stored().large_file(true), stored().with_alignment(64), stored().with_alignment(1)] {
        for pad in 0..4 {
            let pad = vec![b'x'; pad];
            let entries: [(&str, &[u8]); 4] =
                [("pad", &pad), ("byteorder", b"little"), ("data.pkl", &asm.0), ("data/0", &data)];
            let file = read(&zip(&entries, options)).unwrap();
            assert_eq!(tensor(&file, "w"), (vec![3], counting(3)));
        }
    }
}

#[test]
fn tensors_are_lent_where_they_lie_aligned_in_memory_and_read_otherwise() {
    // The tensor begins at these bytes of an address of 8.
    for begin in [0, 1, 4, 7] {
        let mut header = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#.to_owned();
        while header.len() % 8 != begin {
            header.push(' ');
        }
        let bytes = safetensors(&header, &floats([1.5, -2.0]));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        fs::write(&path, &bytes).unwrap();
        let (memory, file) = (read(&bytes).unwrap(), WeightFile::open(&path).unwrap());
        for file in [&memory, &file] {
            assert_eq!(tensor(file, "w"), (vec![2], vec![1.5, -2.0]));
        }
        let lent = |file: &WeightFile| matches!(file.tensor("w").unwrap().data, Elements::Memory(_));
        assert!(!lent(&file));
        // An allocation of this length has an address of 8.
        assert_eq!(lent(&memory), begin % 4 == 0 && cfg!(target_endian = "little"), "{begin}");
    }
}

#[test]
fn safetensors_of_every_float_are_read() {
    let header = r#"{"__metadata__":{"architecture":"resnet18"},
        "bn1.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[0,8]},
        "d":{"dtype":"F64","shape":[1],"data_offsets":[8,16]},
        "h":{"dtype":"F16","shape":[2],"data_offsets":[16,20]},
        "b":{"dtype":"BF16","shape":[1,2],"data_offsets":[20,24]}}"#;
    let mut data = vec![0; 8];
    data.extend((-0.375f64).to_le_bytes());
    data.extend([0x00, 0x3c, 0x01, 0x00, 0x80, 0x3f, 0xc0, 0xbf]);
    let file = read(&safetensors(header, &data)).unwrap();
    assert_eq!((file.format(), file.names().collect::<Vec<_>>()), (Format::SafeTensors, vec!["b", "d", "h"]));
    assert_eq!(tensor(&file, "d"), (vec![1], vec![-0.375]));
    assert_eq!(tensor(&file, "h"), (vec![2], vec![1.0, 2f32.powi(-24)]));
    assert_eq!(tensor(&file, "b"), (vec![1, 2], vec![1.0, -1.5]));
    assert_eq!(file.metadata()[keys::ARCHITECTURE], "resnet18");
}

#[test]
fn saved_files_read_back_bit_for_bit_and_are_deterministic() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.safetensors"), dir.path().join("b"));
    let weird = [f32::NAN, -0.0, f32::MIN_POSITIVE / 2.0, f32::INFINITY];
    let long = counting(40_000);
    let tensors = [
        ("z", Tensor::new(&[2, 2], &weird)),
        ("layer1.0.conv1.weight", Tensor::new(&[40_000], &long)),
        ("empty", Tensor::new(&[0], &[])),
    ];
    let metadata: BTreeMap<_, _> = (0..20).map(|i| (format!("k{i}"), format!("\"{i}\"\n"))).collect();
    save(&a, tensors, &metadata).unwrap();
    save(&b, tensors.into_iter().rev(), &metadata).unwrap();
    assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
    let file = WeightFile::open(&a).unwrap();
    assert_eq!((file.path(), file.metadata()), (a.as_path(), &metadata));
    for (name, t) in tensors {
        let got = file.tensor(name).unwrap();
        assert_eq!(got.shape, t.shape);
        let [got, want] = [got, t].map(|t| t.data.to_vec().unwrap());
        assert!(got.iter().map(|v| v.to_bits()).eq(want.iter().map(|v| v.to_bits())), "{name}");
    }
    // The official reader agrees.
    let bytes = fs::read(&a).unwrap();
    let official = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(official.tensor("layer1.0.conv1.weight").unwrap().data(), floats(long.iter().copied()));

    let twice = save(&a, [tensors[0], tensors[0]], &metadata).unwrap_err().to_string();
    assert!(twice.ends_with("tensor z is given twice"), "{twice}");
    let short = save(&a, [("s", Tensor::new(&[3], &weird))], &metadata).unwrap_err().to_string();
    assert!(short.ends_with("tensor s has shape [3] but 4 elements"), "{short}");
    assert_eq!(fs::read(&a).unwrap(), bytes);
}

#[test]
fn public_weights_load_and_survive_safetensors() {
    for (name, arch) in [("resnet20-12fca82f.th", "resnet20-cifar-Ac"), ("resnet32-d509ac18.th", "resnet32-cifar-Ac")] {
        let Some(path) = shared(name) else { return };
        let file = WeightFile::open(&path).unwrap();
        assert_eq!((file.format(), file.state_dict_key()), (Format::TorchLegacy, Some("state_dict")));
        let spec = spec_from(&file, Some(arch)).unwrap();
        check(&spec, &file).unwrap();
        let names = spec_from(&file, None).unwrap_err().to_string();
        let depth = spec.depth();
        let fits = format!("holds (the shapes fit resnet{depth}-cifar, resnet{depth}-cifar-Ac or plain{depth}-cifar)");
        assert!(names.ends_with(&fits), "{names}");

        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("copy");
        save(&copy, file.tensors(), &describe(&spec, None)).unwrap();
        let copy = WeightFile::open(&copy).unwrap();
        assert_eq!(spec_from(&copy, None).unwrap(), spec);
        check(&spec, &copy).unwrap();
        for (name, t) in file.tensors() {
            assert_eq!(tensor(&copy, name), (t.shape.to_vec(), t.data.to_vec().unwrap()), "{name}");
        }
    }
}

/// A damaged file of this project is found out; files of other programs have no checksum and are read.
#[test]
fn flipped_bits_of_saved_files_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    let tensors = [("fc.bias", Tensor::new(&[3], &[0.5, 1.0, -2.0])), ("t", Tensor::new(&[], &[3.0]))];
    let metadata = BTreeMap::from([(keys::LICENSE.to_owned(), "MIT".to_owned())]);
    save(&path, tensors, &metadata).unwrap();
    let bytes = fs::read(&path).unwrap();
    let whole = WeightFile::open(&path).unwrap();
    assert_eq!(whole.metadata(), &metadata);
    let spaces = bytes.iter().rposition(|&b| b == b'}').unwrap() + 1..bytes.len() - 16;
    let key = bytes.windows(8).position(|w| w == b"checksum").unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            // Without its name the checksum is an entry like others, and blanks say nothing.
            if (key..key + 8).contains(&at) || spaces.contains(&at) {
                continue;
            }
            let text = refusal(&damaged);
            if at >= bytes.len() - 16 {
                assert!(
                    text.contains("its checksum is crc32:") && text.contains("it was damaged or changed"),
                    "{text}"
                );
            }
        }
    }

    // Another writer may put the tensors elsewhere, and the header in another order.
    let from = str::from_utf8(&bytes[8..spaces.start]).unwrap();
    let moved = from.replace("[0,12]", "[4,16]").replace("[12,16]", "[0,4]");
    assert_ne!(from, moved);
    let data = &bytes[bytes.len() - 16..];
    let again = read(&safetensors(&moved, &[&data[12..], &data[..12]].concat())).unwrap();
    assert_eq!(tensor(&again, "fc.bias"), tensor(&whole, "fc.bias"));
}

/// `{key: {"conv1.weight": tensor, ...}}` for every key, the names behind a prefix; all tensors are `[n]`.
fn entries(mut asm: Asm, keys: &[(&str, &str, i64)]) -> Asm {
    for (key, prefix, n) in keys {
        asm = asm.str(key).raw(b"}");
        for name in ["conv1.weight", "layer1.0.conv1.weight", "fc.weight"] {
            asm = asm.str(&format!("{prefix}{name}")).tensor("FloatStorage", 4, 0, &[*n], &[1]).raw(b"s");
        }
        asm = asm.raw(b"s");
    }
    asm
}

#[test]
fn checkpoints_of_training_give_their_weights_and_say_so() {
    let data = floats(counting(4));
    let taken = |asm: Asm| {
        let file = read(&torch_zip(&asm.raw(b"."), &data)).unwrap();
        let names: Vec<_> = file.names().map(str::to_owned).collect();
        assert_eq!(names, ["conv1.weight", "fc.weight", "layer1.0.conv1.weight"], "{:?}", file.notes());
        (file.shape("conv1.weight").unwrap()[0], file.notes().join("; "))
    };
    let start = || Asm::new().raw(b"}");
    // A loss beside the state dict; averaged weights; weights two levels deep.
    let loss = start().str("loss").tensor("FloatStorage", 4, 0, &[], &[]).raw(b"s");
    assert_eq!(taken(entries(loss, &[("model_state_dict", "", 2)])), (2, "took its entry `model_state_dict`".into()));
    let both = entries(start(), &[("model_ema", "module.", 3), ("model", "module.", 2)]);
    assert_eq!(taken(both), (2, "took its entry `model`, not model_ema".into()));
    assert_eq!(taken(entries(start(), &[("model_ema", "", 3)])).0, 3);
    let deep = entries(start().str("model").raw(b"}"), &[("state_dict", "", 4)]).raw(b"s");
    assert_eq!(taken(deep), (4, "took its entry `model`".into()));
    assert_eq!(taken(entries(start(), &[("generator", "", 1)])).1, "took its entry `generator`");
    // A prefix of all, and what lies beside the network.
    for prefix in ["model.", "backbone.", "net.encoder.", "1."] {
        let (_, note) = taken(entries(start(), &[("state_dict", prefix, 2)]));
        assert_eq!(note, format!("took its entry `state_dict`; dropped the prefix `{prefix}`"));
    }
    let beside =
        start().str("state_dict").raw(b"}").str("criterion.w").tensor("FloatStorage", 4, 0, &[1], &[1]).raw(b"s");
    let beside = ["conv1.weight", "layer1.0.conv1.weight", "fc.weight"]
        .iter()
        .fold(beside, |asm, name| asm.str(&format!("model.{name}")).tensor("FloatStorage", 4, 0, &[2], &[1]).raw(b"s"));
    let (_, note) = taken(beside.raw(b"s"));
    assert!(note.ends_with("left out 1 tensors beside the network, such as `criterion.w`"), "{note}");
    // A counter of steps.
    let counted = start().str("n_averaged").tensor("LongStorage", 2, 0, &[], &[]).raw(b"s");
    let counted = ["conv1.weight", "layer1.0.conv1.weight", "fc.weight"].iter().fold(counted, |asm, name| {
        asm.str(&format!("module.{name}")).tensor("FloatStorage", 4, 0, &[2], &[1]).raw(b"s")
    });
    // One storage cannot be of two types in a legacy file; in an archive it is bytes.
    assert_eq!(taken(counted), (2, String::new()));
}

#[test]
fn objects_beside_the_weights_are_stepped_over() {
    let data = floats(counting(4));
    // collections.Counter({30: 1}), argparse.Namespace with state, a set, and an object with keywords.
    let objects: [Asm; 4] = [
        Asm(Vec::new()).global("collections", "Counter").raw(b"}K\x1eK\x01s\x85R"),
        Asm(Vec::new()).global("argparse", "Namespace").raw(b")\x81}").str("lr").raw(b"G\0\0\0\0\0\0\0\0sb"),
        Asm(Vec::new()).raw(b"\x8f(K\x01K\x02\x90"),
        Asm(Vec::new()).global("posix", "system").raw(b")}\x92"),
    ];
    for object in objects {
        let asm = Asm::new().raw(b"}").str("scheduler").raw(&object.0).raw(b"s");
        let file = read(&torch_zip(&entries(asm, &[("model", "", 2)]).raw(b"."), &data)).unwrap();
        assert_eq!(file.names().len(), 3);
        let foreign = file.notes().get(1).map_or("", String::as_str);
        assert!(foreign.is_empty() || foreign.starts_with("stepped over objects of "), "{foreign}");
    }
    let several = entries(Asm::new().raw(b"}"), &[("student", "", 2), ("teacher", "", 3)]).raw(b".");
    let text = refusal(&torch_zip(&several, &data));
    assert!(text.contains("any of its entries student, teacher could be the weights; save only one of them"), "{text}");
    let towers = ["encoder_q.", "encoder_k."].iter().fold(Asm::new().raw(b"}"), |asm, prefix| {
        ["conv1.weight", "layer1.0.conv1.weight"].iter().fold(asm, |asm, name| {
            asm.str(&format!("{prefix}{name}")).tensor("FloatStorage", 4, 0, &[2], &[1]).raw(b"s")
        })
    });
    let text = refusal(&torch_zip(&towers.raw(b"."), &data));
    assert!(text.contains("the networks `encoder_k.` and `encoder_q.`, and nothing says which is meant"), "{text}");
}
