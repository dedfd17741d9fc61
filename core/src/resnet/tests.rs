//! Every network of the paper against published counts.

use super::{Block, ResNet, Shortcut, ShortcutSpec, StridePlacement, ZeroChannels};

fn net(name: &str) -> ResNet {
    name.parse().unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn parameters_and_macs_are_the_published_ones() {
    for (name, params, macs) in [
        ("resnet18", 11_689_512, 1_814_073_344),
        ("resnet34", 21_797_672, 3_663_761_408),
        ("resnet50", 25_557_032, 4_089_184_256),
        ("resnet50-v1", 25_557_032, 3_857_973_248),
        ("resnet152", 60_192_808, 11_513_626_624),
        ("plain34", 21_623_848, 3_644_493_824),
        ("resnet20-cifar", 269_722, 40_551_040),
        ("resnet20-cifar-B", 272_474, 40_813_184),
        ("resnet110-cifar", 1_727_962, 252_887_680),
    ] {
        assert_eq!((net(name).params(), net(name).macs()), (params, macs), "{name}");
    }
    assert_eq!(net("resnet101").params(), 44_549_160);
    assert!((net("resnet1202-cifar").params() as f64 / 1e6 - 19.4).abs() < 0.05);
}

#[test]
fn names_round_trip() {
    for name in [
        "resnet18",
        "resnet50-v1",
        "resnet34-A",
        "resnet34-C",
        "plain18",
        "resnet152-C-v1",
        "resnet20-cifar",
        "resnet56-cifar-Ac",
        "resnet8-cifar-B",
        "plain20-cifar",
        "resnet29-cifar-bottleneck-B-v1-w24",
        "resnet20-cifar-in1",
        "resnet50-v1-w32-in12",
    ] {
        assert_eq!(net(name).to_string(), name);
    }
}

#[test]
fn malformed_names_are_refused() {
    for name in [
        "",
        "resnet",
        "resnet21-cifar",
        "resnet19",
        "vgg16",
        "resnet50-",
        "resnet50-A-B",
        "plain34-B",
        "resnet18-v1",
        "resnet50-bottleneck",
        "resnet20-cifar-w0",
        "resnet20-cifar-cifar",
        "resnet99999999999999999999",
        "resnet65537-cifar",
        "resnet2-cifar",
        "resnet50-x",
        "resnet50-in",
        "resnet50-in0",
        "resnet50-in4097",
        "resnet50-in1-in1",
    ] {
        assert!(name.parse::<ResNet>().is_err(), "{name}");
    }
}

#[test]
fn names_are_torchvisions() {
    let names: Vec<_> = net("resnet50").tensors().map(|t| t.name).collect();
    for name in ["conv1.weight", "bn1.running_var", "layer1.0.downsample.0.weight", "layer4.2.bn3.bias", "fc.bias"] {
        assert!(names.iter().any(|n| n.as_str() == name), "{name}");
    }
    assert_eq!(names.len(), 53 * 5 + 2);
}

#[test]
fn head_reads_what_the_last_block_writes() {
    for name in ["resnet18", "resnet50-v1", "resnet20-cifar", "resnet29-cifar-bottleneck"] {
        for side in [32, 33, 75, 224] {
            let net = net(name).with_input(side, side + 5).unwrap();
            assert_eq!(net.blocks().last().unwrap().output(), net.head().input, "{name} at {side}");
        }
    }
}

#[test]
fn the_input_has_the_channels_of_the_name() {
    let (grey, rgb) = (net("resnet18-in1"), net("resnet18"));
    assert_eq!((grey.input().c, net("resnet18-in3")), (1, rgb));
    assert_eq!(grey.tensors().next().unwrap().shape(), [64, 1, 7, 7]);
    // Two of three input channels of the first convolution are gone, and nothing else.
    assert_eq!(rgb.params() - grey.params(), 2 * 64 * 7 * 7);
    assert_eq!(rgb.macs() - grey.macs(), 2 * 64 * 7 * 7 * 112 * 112);
}

#[test]
fn option_a_places_its_zero_channels() {
    let pad = |zeros| {
        let net = ResNet::cifar(20, Block::Basic).unwrap().with_shortcut(Shortcut::A(zeros));
        net.blocks().nth(3).unwrap().shortcut
    };
    assert_eq!(pad(ZeroChannels::After), ShortcutSpec::Pad { stride: 2, before: 0, after: 16 });
    assert_eq!(pad(ZeroChannels::Split), ShortcutSpec::Pad { stride: 2, before: 8, after: 8 });
}

#[test]
fn the_stride_is_where_it_was_asked_for() {
    for (placement, strides) in [(StridePlacement::Conv1, [2, 1, 1]), (StridePlacement::Conv2, [1, 2, 1])] {
        let block = net("resnet50").with_stride_placement(placement).blocks().nth(3).unwrap();
        assert_eq!(block.convs().iter().map(|c| c.geom.stride).collect::<Vec<_>>(), strides);
    }
}
