//! Damaged and hostile files: each is an error, none a panic or a large allocation.

use proptest::prelude::*;

use super::{super::*, *};

/// Reads everything a caller could read.
fn exercise(bytes: &[u8]) {
    if let Ok(file) = read(bytes) {
        assert_eq!(file.tensors().count(), file.names().len());
        for (name, t) in file.tensors() {
            assert_eq!(t.shape.iter().product::<usize>(), t.data.len(), "{name}");
            assert_eq!(t.data.to_vec().unwrap().len(), t.data.len(), "{name}");
        }
        let _ = file.class_names();
        if let Ok(spec) = spec_from(&file, None) {
            let _ = check(&spec, &file);
        }
    }
}

fn small_files() -> Vec<(&'static str, Vec<u8>)> {
    let mut files: Vec<_> = ["zip.pt", "legacy.pt", "checkpoint-zip.pt", "checkpoint-legacy.pt", "protocol4-legacy.pt"]
        .map(|name| (name, fixture(name)))
        .into();
    let header = r#"{"__metadata__":{"architecture":"resnet8-cifar"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},
        "b":{"dtype":"F16","shape":[2],"data_offsets":[16,20]}}"#;
    files.push(("safetensors", safetensors(header, &[0; 20])));
    files
}

#[test]
fn files_cut_at_every_byte_are_refused() {
    for (name, bytes) in small_files() {
        read(&bytes).unwrap();
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "{name} cut to {len} of {} bytes", bytes.len());
        }
    }
}

#[test]
fn every_byte_may_be_wrong() {
    for (_, bytes) in small_files() {
        let mut damaged = bytes.clone();
        for at in 0..bytes.len() {
            for value in [0x00, 0xff, bytes[at] ^ 0x01, bytes[at] ^ 0x80] {
                damaged[at] = value;
                exercise(&damaged);
            }
            damaged[at] = bytes[at];
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_damage_never_panics(which in 0usize..6, edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..12)) {
        let mut bytes = small_files().swap_remove(which).1;
        for (at, value, kind) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = value,
                1 => bytes.insert(at, value),
                _ => drop(bytes.remove(at)),
            }
        }
        exercise(&bytes);
    }

    #[test]
    fn random_opcodes_never_panic(code in prop::collection::vec(prop::sample::select(
        b"(.012)]}NKMJGXUTCBtlaedsucRbQqhrj\x80\x81\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x93\x94\x95\x00\x01\x02\xff".to_vec()), 0..200)) {
        exercise(&torch_zip(&Asm::new().raw(&code), &[0; 16]));
    }
}

#[test]
fn other_python_objects_are_refused_by_name() {
    for (module, name) in [
        ("posix", "system"),
        ("builtins", "eval"),
        ("torch._utils", "_rebuild_sparse_tensor"),
        ("torch.nn.modules.linear", "Linear"),
        ("torch", "load"),
        ("collections", "defaultdict"),
    ] {
        let code = Asm::new().global(module, name).str("echo").raw(b"\x85R.");
        let text = refusal(&torch_zip(&code, &[]));
        assert!(text.starts_with(&format!("test.bin refuses to load: its pickle asks for {module}.{name},")), "{text}");
        let stacked = Asm::new().str(module).str(name).raw(b"\x93.");
        assert_eq!(refusal(&torch_zip(&stacked, &[])), text);
        let legacy = [Asm::new().raw(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.").0, code.0].concat();
        assert_eq!(refusal(&legacy), text);
    }
    let text = refusal(&fixture("module.pt"));
    assert!(text.contains("torch.nn.modules.linear.Linear"), "{text}");
    let text = refusal(&torch_zip(&Asm::new().global("a\u{1b}[2J", &"b".repeat(5000)).raw(b")R."), &[]));
    assert!(text.contains(r"a\u{1b}[2J.bbb"), "{text}");
}

#[test]
fn views_outside_their_storage_are_refused() {
    let data = floats([0.0, 1.0, 2.0, 3.0]);
    let with = |len, offset, shape: &[i64], strides: &[i64]| {
        refusal(&torch_zip(&Asm::dict("w", len, offset, shape, strides), &data))
    };
    assert_eq!(
        with(4, 1, &[2, 2], &[2, 1]),
        "test.bin: tensor w of shape [2, 2] strides [2, 1] offset 1 reaches element 4 of a storage of 4"
    );
    assert_eq!(with(5, 0, &[4], &[1]), "test.bin: tensor w needs a storage of 5 elements, the file holds 4");
    for (offset, shape, strides) in [
        (4, &[1][..], &[1][..]),
        (0, &[2, 2], &[3, 1]),
        (0, &[2], &[i64::MAX]),
        (i64::MAX, &[2], &[1]),
        (0, &[i64::MAX, i64::MAX], &[0, 0]),
        (0, &[1 << 40], &[0]),
        (0, &[-1], &[1]),
        (0, &[2], &[-1]),
        (-1, &[2], &[1]),
        (0, &[2, 2], &[1]),
        (0, &[1; 9], &[1; 9]),
        (0, &[1; 65], &[1; 65]),
    ] {
        with(4, offset, shape, strides);
    }
    with(-1, 0, &[1], &[1]);
    with(i64::MAX, 0, &[1], &[1]);
}

#[test]
fn a_short_file_cannot_ask_for_much_memory() {
    // Ten thousand views that each expand one element to 1000.
    let mut asm = Asm::new().raw(b"}").str("w").tensor("FloatStorage", 1, 0, &[1000], &[0]).raw(b"q\x00s");
    for i in 0..10_000 {
        asm = asm.str(&i.to_string()).raw(b"h\x00s");
    }
    let text = refusal(&torch_zip(&asm.raw(b"."), &[0; 4]));
    assert!(text.contains("would make the tensors take over 4 times the"), "{text}");

    // Entries that are copied from one long list again and again.
    let mut asm = Asm::new().raw(b"](");
    for _ in 0..5000 {
        asm = asm.raw(b"NN\x86");
    }
    asm = asm.raw(b"e\x85q\x00").global("collections", "OrderedDict").raw(b"q\x01");
    for _ in 0..5000 {
        asm = asm.raw(b"h\x01h\x00R");
    }
    let text = refusal(&torch_zip(&asm.raw(b"."), &[]));
    assert!(text.contains("copies too much"), "{text}");

    // Strings, storages and memos longer than the file.
    for code in
        [&b"X\xff\xff\xff\xff"[..], b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x8b\xff\xff\xff\x7f", b"B\0\0\0\x80"]
    {
        let text = refusal(&torch_zip(&Asm::new().raw(code), &[]));
        assert!(text.contains("its pickle ends where"), "{text}");
    }
    let text = refusal(&torch_zip(&Asm::new().raw(&b"2".repeat(3)), &[]));
    assert!(text.contains("empty stack (pickle byte 2)"), "{text}");
}

#[test]
fn nesting_and_cycles_end() {
    let deep = Asm::new().raw(b"]").raw(&b"\x85".repeat(200_000)).raw(b".");
    assert!(refusal(&torch_zip(&deep, &[])).contains("no dict"));
    let lists = Asm::new().raw(&b"]".repeat(100_000)).raw(&b"a".repeat(99_999)).raw(b".");
    assert!(refusal(&torch_zip(&lists, &[])).contains("no dict"));
    let cycle = Asm::new().raw(b"}q\x00").str("state_dict").raw(b"h\x00s.");
    assert!(refusal(&torch_zip(&cycle, &[])).contains("no state dict is among its entries (state_dict)"));
    let size = Asm::new().raw(b"]q\x00h\x00a").global("torch", "Size").raw(b"h\x00\x85R.");
    assert!(refusal(&torch_zip(&size, &[])).contains("no dict"));
    let long = Asm::new().raw(&b"N0".repeat(1 << 21));
    assert!(refusal(&torch_zip(&long, &[])).contains("more than 2097152 opcodes"));
    let nested = format!("{{\"a\":{}", "[".repeat(100_000));
    assert!(refusal(&safetensors(&nested, &[])).contains("expected a map"));
    let nested = format!("{{\"a\":{{\"shape\":{}", "[".repeat(100_000));
    assert!(refusal(&safetensors(&nested, &[])).contains("EOF"));
    let nested = format!("{{\"a\":{{\"dtype\":\"F32\",\"shape\":{}{}}}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(refusal(&safetensors(&nested, &[])).contains("unusable shape"));
}

#[test]
fn unfit_values_types_and_entries_are_named() {
    assert_eq!(refusal(&fixture("overflow.pt")), "test.bin: tensor big holds 1e300, which f32 cannot represent");
    let infinite = read(&fixture("infinite.pt")).unwrap();
    let (_, values) = tensor(&infinite, "big");
    assert!(values[0] == f32::INFINITY && values[1].is_nan());
    assert!(refusal(&fixture("integers.pt")).contains("tensor mask has element type int8"));
    assert!(refusal(&fixture("no-tensors.pt")).contains("no state dict is among its entries (epoch, loss)"));
    assert!(refusal(b"").contains("it is empty"));
    assert!(refusal(b"GIF89a").contains("it begins with the bytes [47, 49, 46, 38, 39, 61]"));

    let twice = Asm::new().raw(b"}").str("fc.bias").tensor("FloatStorage", 1, 0, &[1], &[1]).raw(b"s");
    let twice = twice.str("module.linear.bias").tensor("FloatStorage", 1, 0, &[1], &[1]).raw(b"s.");
    assert_eq!(refusal(&torch_zip(&twice, &[0; 4])), "test.bin: tensor module.linear.bias is there twice (as fc.bias)");
}

#[test]
fn strange_archives_are_refused() {
    let asm = Asm::dict("w", 1, 0, &[1], &[1]);
    let good = torch_zip(&asm, &[1, 2, 3, 4]);
    read(&good).unwrap();
    let patch = |at: usize, from_end: bool, value: &[u8]| {
        let mut bytes = good.clone();
        let signature: &[u8] = if from_end { b"PK\x01\x02" } else { b"PK\x03\x04" };
        let header = bytes.windows(4).rposition(|w| w == signature).unwrap();
        bytes[header + at..][..value.len()].copy_from_slice(value);
        bytes
    };
    let text = refusal(&patch(10, true, &[8, 0]));
    assert!(text.contains("entry data/0 is compressed (deflate)"), "{text}");
    let text = refusal(&patch(10, true, &[200, 0]));
    assert!(text.contains("entry data/0 is compressed (200)"), "{text}");
    let text = refusal(&patch(8, true, &[1, 0]));
    assert!(text.contains("encrypted"), "{text}");
    let text = refusal(&patch(16, true, &[0; 4]));
    assert!(text.contains("entry data/0 is damaged: its checksum does not match"), "{text}");
    let text = refusal(&patch(24, true, &[0, 0, 1, 0]));
    assert!(text.contains("entry data/0 is stored, but its sizes disagree: 4 and 65536 bytes"), "{text}");
    // Both sizes, beside each other.
    let text = refusal(&patch(20, true, &[0, 0, 1, 0, 0, 0, 1, 0]));
    assert!(text.contains("reaches beyond the end of the file"), "{text}");
    let text = refusal(&patch(42, true, &[0xff, 0xff, 0xff, 0x7f]));
    assert!(text.contains("reaches beyond the end of the file"), "{text}");
    for cut in 1..good.len() {
        refusal(&good[..good.len() - cut]);
    }
    let text = refusal(&zip(&[("data.pkl", &asm.0)], stored()));
    assert!(text.contains("the archive has no entry data/0"), "{text}");
    let text = refusal(&zip(&[("x", b"")], stored()));
    assert!(text.contains("no data.pkl"), "{text}");
    let text = refusal(&zip(&[("data.pkl", &asm.0), ("data/0", &[0; 4]), ("byteorder", b"big")], stored()));
    assert!(text.contains("big-endian"), "{text}");
    // Two entries of one name: the writer will not make them, so rename one.
    let mut twin = zip(&[("data.pkl", &asm.0), ("data/0", &[0; 4]), ("data/1", &[1; 4])], stored());
    while let Some(at) = twin.windows(6).position(|w| w == b"data/1") {
        twin[at + 5] = b'0';
    }
    assert!(refusal(&twin).contains("two entries of the archive have the same name"));
}

#[test]
fn strange_safetensors_headers_are_refused() {
    let one = |entry: &str| format!("{{\"a\":{entry}}}");
    let huge = usize::MAX / 8;
    for (header, data, reason) in [
        (one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#), 4, "its tensors take 8 bytes, the file holds 4"),
        (one(r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#), 8, "its tensors take 4 bytes, the file holds 8"),
        (one(r#"{"dtype":"F32","shape":[3],"data_offsets":[0,8]}"#), 8, "of shape [3] and type F32 does not take the bytes"),
        (one(r#"{"dtype":"F32","shape":[2],"data_offsets":[8,0]}"#), 8, "does not take the bytes from 8 to 0"),
        (one(r#"{"dtype":"F32","shape":[2],"data_offsets":[4,12]}"#), 12, "begins at byte 4, the one before it ends at 0"),
        (one(r#"{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,8]}"#), 8, "does not take the bytes"),
        (one(r#"{"dtype":"F32","shape":[2]}"#), 8, "tensor a has no data_offsets"),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#.into(), 8, "begins at byte 4"),
        (one(&format!(r#"{{"dtype":"U8","shape":[{huge}],"data_offsets":[0,{huge}]}}"#)), 0, "its tensors take"),
        (one(r#"{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}"#), 8, "invalid value"),
        (one(r#"{"dtype":"F99","shape":[2],"data_offsets":[0,8]}"#), 8, "F99"),
        (one(r#"{"dtype":"I32","shape":[2],"data_offsets":[0,8]}"#), 8, "tensor a has element type i32"),
        (r#"{"__metadata__":{"a":1}}"#.into(), 0, "expected a string"),
        ("{".into(), 0, "EOF"),
    ] {
        let text = refusal(&safetensors(&header, &vec![0; data]));
        assert!(text.contains(reason), "{header}: {text}");
    }
    // Lengths whose sum overflows.
    let part = |i: usize| {
        let (from, to) = (i * huge, (i + 1) * huge);
        format!(r#""t{i}":{{"dtype":"U8","shape":[{huge}],"data_offsets":[{from},{to}]}}"#)
    };
    let header = format!("{{{}}}", (0..8).map(part).collect::<Vec<_>>().join(","));
    assert!(refusal(&safetensors(&header, &[])).contains("its tensors take"));
    let long = safetensors(&format!("{{{}}}", " ".repeat(8 << 20)), &[]);
    let text = refusal(&long);
    assert!(text.contains("its header takes 8388610 bytes, a network's at most 8388608"), "{text}");
    let mut long = safetensors("{}", &[]);
    long[..8].fill(0xff);
    assert!(refusal(&long).contains("its header is longer than the file"));
}

#[test]
fn files_that_cannot_be_opened_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let text = WeightFile::open(dir.path()).unwrap_err().to_string();
    assert!(text.ends_with("it is a folder, not a regular file"), "{text}");
    let absent = dir.path().join("absent.pth");
    let text = WeightFile::open(&absent).unwrap_err().to_string();
    assert!(text.starts_with(&absent.display().to_string()), "{text}");
    let empty = dir.path().join("empty.pth");
    std::fs::write(&empty, []).unwrap();
    assert!(WeightFile::open(&empty).unwrap_err().to_string().ends_with("it is empty"));
}
