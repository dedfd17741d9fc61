//! Files against networks.

use std::collections::BTreeMap;

use residual_core::{resnet::ResNet, weights::Tensor};

use super::super::*;

type Owned = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn net(name: &str) -> ResNet {
    name.parse().unwrap()
}

fn weights_of(spec: &ResNet) -> Owned {
    spec.tensors().map(|t| (t.name.to_string(), (t.shape().to_vec(), vec![0.5; t.elements()]))).collect()
}

fn file(tensors: &Owned, metadata: &[(&str, &str)]) -> WeightFile {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w");
    let metadata = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    save(&path, tensors.iter().map(|(n, (shape, data))| (n.as_str(), Tensor::new(shape, data))), &metadata).unwrap();
    WeightFile::from_bytes("w.bin", std::fs::read(&path).unwrap()).unwrap()
}

#[test]
fn every_difference_is_reported_in_one_line() {
    let spec = net("resnet8-cifar");
    let mut tensors = weights_of(&spec);
    check(&spec, &file(&tensors, &[])).unwrap();
    tensors.remove("layer1.0.conv1.weight");
    tensors.insert("layer2.0.bn1.bias".into(), (vec![31], vec![0.0; 31]));
    tensors.insert("foo".into(), (vec![3], vec![0.0, f32::NAN, 0.0]));
    tensors.get_mut("bn1.running_var").unwrap().1[2] = -0.25;
    tensors.get_mut("bn1.bias").unwrap().1[0] = -0.25;
    tensors.get_mut("fc.bias").unwrap().1[9] = f32::NEG_INFINITY;
    let text = check(&spec, &file(&tensors, &[])).unwrap_err().to_string();
    assert_eq!(
        text,
        "w.bin does not fit resnet8-cifar: missing layer1.0.conv1.weight [16, 16, 3, 3]; \
         layer2.0.bn1.bias has [31], needs [32]; unexpected foo [3]; \
         bn1.running_var[2] is -0.25, fc.bias[9] is -inf, foo[1] is NaN"
    );
    let text = check(&net("resnet50"), &file(&tensors, &[])).unwrap_err().to_string();
    assert!(text.contains(" and ") && text.contains(" more") && text.len() < 2000, "{text}");
}

#[test]
fn folded_files_are_legal_only_as_a_whole() {
    let spec = net("resnet8-cifar-B");
    let mut folded = weights_of(&spec);
    folded.retain(|name, _| !name.contains("bn") && !name.contains("downsample.1"));
    for conv in spec.convs() {
        folded.insert(format!("{}.bias", conv.name), (vec![conv.geom.c_out], vec![0.0; conv.geom.c_out]));
    }
    check(&spec, &file(&folded, &[])).unwrap();
    folded.remove("layer2.0.downsample.0.bias");
    folded.insert("layer1.0.bn1.weight".into(), (vec![16], vec![0.0; 16]));
    let text = check(&spec, &file(&folded, &[])).unwrap_err().to_string();
    assert_eq!(
        text,
        "w.bin does not fit resnet8-cifar-B: missing layer2.0.downsample.0.bias [32]; \
         unexpected layer1.0.bn1.weight [16]"
    );
    let mut both = weights_of(&spec);
    both.insert("conv1.bias".into(), (vec![16], vec![0.0; 16]));
    let text = check(&spec, &file(&both, &[])).unwrap_err().to_string();
    assert!(text.ends_with("unexpected conv1.bias [16]"), "{text}");
}

#[test]
fn the_network_comes_from_the_metadata_or_the_caller() {
    let hundred = net("resnet8-cifar").with_classes(100).unwrap();
    let tensors = weights_of(&hundred);
    let plain = file(&tensors, &[]);
    assert_eq!(spec_from(&plain, Some("resnet8-cifar")).unwrap(), hundred);
    assert_eq!(with_classes(net("resnet8-cifar"), &plain).unwrap(), hundred);
    let described = file(&tensors, &[("architecture", "resnet8-cifar"), ("classes", "100")]);
    assert_eq!(spec_from(&described, None).unwrap(), hundred);
    assert_eq!(spec_from(&described, Some("resnet8-cifar")).unwrap(), hundred);

    let error = |file: &WeightFile, arch| spec_from(file, arch).unwrap_err().to_string();
    assert_eq!(
        error(&plain, None),
        "w.bin does not say which network it holds \
         (the shapes fit resnet8-cifar, resnet8-cifar-Ac or plain8-cifar)"
    );
    assert_eq!(
        error(&described, Some("resnet20-cifar")),
        "w.bin holds resnet8-cifar, but resnet20-cifar was asked for"
    );
    assert_eq!(
        error(&described, Some("vgg16\n")),
        "\"vgg16\\n\": unknown architecture: a name begins with `resnet` or `plain`, for example resnet50 or plain20-cifar"
    );
    let wrong = file(&tensors, &[("architecture", "resnet8-cifar"), ("classes", "10")]);
    assert_eq!(error(&wrong, None), "w.bin: metadata classes = \"10\" disagrees with fc.weight, which has 100 outputs");
    let wrong = file(&tensors, &[("architecture", "lenet")]);
    assert!(error(&wrong, None).starts_with("w.bin: metadata architecture = \"lenet\" names none: "));
    let unknown = file(&Owned::from([("a".into(), (vec![1], vec![0.0]))]), &[]);
    assert_eq!(error(&unknown, None), "w.bin does not say which network it holds");
}

#[test]
fn suggestions_are_networks_that_fit() {
    for name in
        ["resnet20-cifar-B-w8-in1", "resnet11-cifar-bottleneck-C", "resnet18-w4", "resnet50-C-w2-in5", "plain18-w4"]
    {
        let spec = net(name);
        let weights = file(&weights_of(&spec), &[]);
        let ImportError::NoArchitecture { fits, .. } = spec_from(&weights, None).unwrap_err() else { panic!("{name}") };
        assert!(fits.contains(&spec), "{name}: {fits:?}");
        for fit in fits {
            check(&fit, &weights).unwrap();
        }
    }
}

#[test]
fn the_first_convolution_tells_the_input_channels() {
    let grey = net("resnet8-cifar-in1");
    let weights = file(&weights_of(&grey), &[]);
    assert_eq!(spec_from(&weights, Some("resnet8-cifar")).unwrap(), grey);
    assert_eq!(spec_from(&weights, Some("resnet8-cifar-in1")).unwrap(), grey);
    // A name that says other channels is held to it.
    let other = spec_from(&weights, Some("resnet8-cifar-in2")).unwrap();
    let error = check(&other, &weights).unwrap_err().to_string();
    assert_eq!(error, "w.bin does not fit resnet8-cifar-in2: conv1.weight has [16, 1, 3, 3], needs [16, 2, 3, 3]");
}

#[test]
fn class_names_must_match_the_outputs() {
    let spec = net("resnet8-cifar").with_classes(2).unwrap();
    let names = ["cat".to_string(), "dog \"x\"".to_string()];
    let map = describe(&spec, Some(&names));
    let pairs: Vec<_> = map.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let tensors = weights_of(&spec);
    assert_eq!(file(&tensors, &pairs).class_names().unwrap().unwrap(), names);
    assert_eq!(file(&tensors, &[]).class_names().unwrap(), None);
    let error = |names| file(&tensors, &[("class_names", names)]).class_names().unwrap_err().to_string();
    assert_eq!(
        error(r#"["a"]"#),
        "w.bin: metadata class_names = \"[\"a\"]\" holds 1 names, but fc.weight has 2 outputs"
    );
    assert!(error("cat,dog").contains("is not a JSON array of strings"));
}
