//! Files as PyTorch and safetensors write them.

use std::{collections::BTreeMap, fs};

use residual_core::weights::{Tensor, Weights};

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
fn aligned_tensors_are_borrowed_and_others_converted() {
    for (name, header) in [
        ("aligned", "\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}      "),
        ("odd", "\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"),
    ] {
        let mut header = format!("{{\"w\":{{\"dtype\":{header}");
        while header.len() % 4 != if name == "odd" { 1 } else { 0 } {
            header.push(' ');
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        fs::write(&path, safetensors(&header, &floats([1.5, -2.0]))).unwrap();
        let file = WeightFile::open(&path).unwrap();
        assert_eq!(tensor(&file, "w"), (vec![2], vec![1.5, -2.0]));
        let mapped = matches!(file.tensors["w"].data, Data::Mapped(_));
        assert_eq!(mapped, name == "aligned" && cfg!(target_endian = "little"), "{name}");
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
        ("z", Tensor { shape: &[2, 2], data: &weird }),
        ("layer1.0.conv1.weight", Tensor { shape: &[40_000], data: &long }),
        ("empty", Tensor { shape: &[0], data: &[] }),
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
        assert!(got.data.iter().zip(t.data).all(|(a, b)| a.to_bits() == b.to_bits()), "{name}");
    }
    // The official reader agrees.
    let bytes = fs::read(&a).unwrap();
    let official = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(official.tensor("layer1.0.conv1.weight").unwrap().data(), floats(long.iter().copied()));

    let twice = save(&a, [tensors[0], tensors[0]], &metadata).unwrap_err().to_string();
    assert!(twice.ends_with("tensor z is given twice"), "{twice}");
    let short = save(&a, [("s", Tensor { shape: &[3], data: &weird })], &metadata).unwrap_err().to_string();
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
            assert_eq!(tensor(&copy, name), (t.shape.to_vec(), t.data.to_vec()), "{name}");
        }
    }
}

#[test]
fn tensors_of_a_mapped_file_read_the_same_after_their_memory_was_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    // Parts of pages and whole ones.
    let tensors: Vec<(String, [usize; 1], Vec<f32>)> =
        [3, 5000, 1, 100_000].map(|n| (format!("t{n}"), [n], (0..n).map(|i| (i % 1000) as f32 - 7.5).collect())).into();
    let views = tensors.iter().map(|(name, shape, data)| (name.as_str(), Tensor { shape, data }));
    save(&path, views, &BTreeMap::new()).unwrap();
    let file = WeightFile::open(&path).unwrap();
    for (released, _, _) in &tensors {
        file.release(file.tensor(released).unwrap().data);
        for (name, shape, data) in &tensors {
            assert_eq!(tensor(&file, name), (shape.to_vec(), data.clone()));
        }
    }
    // What is not the file's stays as it is.
    let other = vec![1.5; 100_000];
    file.release(&other);
    assert!(other.iter().all(|&v| v == 1.5));
}
