//! Every kernel on the shapes it meets: `cargo bench --bench kernels -- conv3x3/resnet50-layer1`.
//!
//! Throughput counts two operations a multiply-add of the convolution, whatever the algorithm does, so a Winograd row
//! may exceed the `limits` rows, which are this CPU's multiply-adds on registers and its reads from memory; a
//! direct or 1x1 row must not.

use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use residual::{
    Isa,
    geom::{ConvGeom, Window},
    graph::OpKind,
    peak::{Arithmetic, burst, read_burst},
    resnet::{self, ResNet},
    testing::Uniform,
};
use residual_core::{
    conv::{Band, ConvWeights, Epilogue, Int8, Kernel},
    memory::{Buffer, MatMut},
    quant::{Conv, Encoding, Rounding},
    simd::{average_pool, max_pool},
};

/// Networks whose layers are timed, each shape once.
const NETWORKS: [&str; 3] = ["resnet50", "resnet18", "resnet20-cifar"];

/// The instruction set that `RESIDUAL_ISA` names, or the best.
fn isa() -> Isa {
    residual::isa().unwrap_or_else(|error| panic!("{error}"))
}

fn limits(c: &mut Criterion) {
    let mut group = group(c, "limits");
    let rounds = 10_000;
    for isa in Isa::available() {
        for arithmetic in [Arithmetic::F32, Arithmetic::Int8, Arithmetic::Int16] {
            group.throughput(Throughput::Elements(2 * burst(isa, arithmetic, rounds)));
            let name = format!("{}-peak-{isa}", arithmetic.name());
            group.bench_function(name, |b| b.iter(|| burst(isa, arithmetic, rounds)));
        }
    }
    let data = vec![1.0f32; 64 << 20];
    group.throughput(Throughput::Bytes(size_of_val(&data[..]) as u64));
    group.bench_function("read-memory", |b| b.iter(|| read_burst(Isa::best(), &data)));
}

fn layers(c: &mut Criterion) {
    let isa = isa();
    let mut seen: Vec<ConvGeom> = Vec::new();
    for network in NETWORKS {
        let spec: ResNet = network.parse().expect("a network of the paper");
        let net = resnet::graph(&spec).expect("a network of the paper");
        for op in net.ops() {
            match &op.kind {
                OpKind::Conv { geom, relu, .. } if !seen.contains(geom) => {
                    seen.push(*geom);
                    let algorithm = match (op.name.as_str(), geom.kernel) {
                        ("fc", _) => "fc".to_owned(),
                        ("conv1", _) => "stem".to_owned(),
                        (_, side) => format!("conv{side}x{side}"),
                    };
                    let mut group = group(c, &format!("{algorithm}/{network}-{}", op.name));
                    for kernel in Kernel::all(isa).iter().filter(|kernel| kernel.supports(geom)) {
                        convolution(&mut group, kernel, geom, *relu);
                    }
                    for kernel in Int8::all(isa).iter().filter(|kernel| kernel.supports(&(*geom).into())) {
                        int8_convolution(&mut group, kernel, (*geom).into());
                    }
                    if geom.kernel == 1 && geom.stride == 1 {
                        product(&mut group, geom);
                    }
                }
                OpKind::MaxPool(geom) => pool(&mut group(c, &format!("pool/{network}")), isa, geom),
                OpKind::AveragePool(map) => {
                    let (x, mut y) = (Uniform::new(1).vec(map.elements()), vec![0.0; map.c]);
                    let mut group = group(c, &format!("pool/{network}"));
                    group.throughput(Throughput::Bytes(4 * map.elements() as u64));
                    group.bench_function("average-pool", |b| b.iter(|| average_pool(isa, &x, &mut y)));
                }
                _ => {}
            }
        }
    }
}

/// One picture, one thread, weights and activations where the run before left them.
fn convolution(group: &mut BenchmarkGroup<'_, WallTime>, kernel: &Kernel, g: &ConvGeom, relu: bool) {
    let buffer = |values: Vec<f32>| {
        let mut buffer = Buffer::new(values.len());
        buffer.as_mut_slice().copy_from_slice(&values);
        buffer
    };
    let mut random = Uniform::new(1);
    let x = buffer(random.vec(g.input.elements()));
    let (oihw, bias) = (random.vec(g.weight_len()), random.vec(g.c_out));
    let mut packed = Buffer::new(kernel.packed_len(g));
    let weights = ConvWeights { oihw: &oihw, scale: &[], bias: &bias };
    kernel.prepack(g, weights, packed.as_mut_slice()).expect("buffers of the lengths asked for");
    let (mut y, mut scratch) = (Buffer::new(g.output().elements()), Buffer::new(kernel.scratch_len(g)));
    let band = Band::whole(g, 1);
    group.throughput(Throughput::Elements(2 * g.macs()));
    group.bench_function(kernel.name().as_str(), |b| {
        b.iter(|| {
            let y = MatMut::new(y.as_mut_slice(), g.c_out);
            let epilogue = Epilogue { add: false, relu };
            kernel.run(g, x.as_slice(), packed.as_slice(), epilogue, &band, y, scratch.as_mut_slice());
        });
    });
}

/// The same in int8, with weights distributed as trained ones are: a bell.
fn int8_convolution(group: &mut BenchmarkGroup<'_, WallTime>, kernel: &Int8, g: Window) {
    let (mut random, c) = (Uniform::new(1), g.output.c);
    let mut bell = |n: usize| -> Vec<i8> { (0..n).map(|_| (random.vec(4).iter().sum::<f32>() * 32.0) as i8).collect() };
    let (x, weights) = (bell(g.input.elements()), bell(g.weight_len()));
    let (bias, mult, shift) = (vec![0; c], vec![0x5555_5555; c], vec![-9; c]);
    let conv = Conv {
        window: g,
        input_zero: 0,
        weights: &weights,
        bias: &bias,
        mult: &mult,
        shift: &shift,
        rounding: Rounding::Twice,
        output: Encoding { zero_point: -128, min: -128, max: 127 },
        add: None,
    };
    let mut packed = vec![0; kernel.packed_len(&g)];
    kernel.prepack(&g, conv, &mut packed).expect("buffers of the lengths asked for");
    let (mut y, mut scratch) = (vec![0; g.output.elements()], vec![0; kernel.scratch_len(&g)]);
    let band = Band { rows: 0..g.output.h, channels: 0..c };
    group.throughput(Throughput::Elements(2 * g.macs()));
    group.bench_function(kernel.name().as_str(), |b| {
        b.iter(|| kernel.run(&g, &x, &packed, conv.epilogue(), &band, MatMut::new(&mut y, c), &mut scratch));
    });
}

/// The same product without bias and activation by the crate `matrixmultiply`, which packs both matrices every time.
fn product(group: &mut BenchmarkGroup<'_, WallTime>, g: &ConvGeom) {
    let (m, k, n) = (g.input.h * g.input.w, g.input.c, g.c_out);
    let mut random = Uniform::new(1);
    let (x, w, mut y) = (random.vec(m * k), random.vec(k * n), vec![0.0f32; m * n]);
    let [k_step, n_step] = [k as isize, n as isize];
    group.throughput(Throughput::Elements(2 * g.macs()));
    group.bench_function("matrixmultiply", |b| {
        b.iter(|| {
            let (x, w, y) = (x.as_ptr(), w.as_ptr(), y.as_mut_ptr());
            // SAFETY: the matrices are m x k, k x n and m x n elements of their vectors, rows one behind the other; the
            // third is borrowed by nobody else.
            unsafe { matrixmultiply::sgemm(m, k, n, 1.0, x, k_step, 1, w, n_step, 1, 0.0, y, n_step, 1) };
        });
    });
}

fn pool(group: &mut BenchmarkGroup<'_, WallTime>, isa: Isa, g: &Window) {
    let (x, mut y) = (Uniform::new(1).vec(g.input.elements()), vec![0.0; g.output.elements()]);
    group.throughput(Throughput::Bytes(4 * (x.len() + y.len()) as u64));
    group.bench_function("max-pool", |b| b.iter(|| max_pool(isa, g, &x, 0..g.output.h, &mut y)));
}

/// Short enough that all of it takes a few minutes.
fn group<'c>(c: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = c.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(400));
    group
}

criterion_group!(benches, limits, layers);
criterion_main!(benches);
