//! Every layer by its definition, in f64 and one loop an element: what finite differences confirm and the
//! real layers are compared with.

use residual_core::{
    conv::reference::ConvF64,
    geom::{ConvGeom, PoolGeom, Shape},
    resnet::{BN_EPSILON, ConvSpec, ResNet, ShortcutSpec},
};

use crate::parameters::Parameters;

/// Maps of a whole batch, NHWC.
type Maps = Vec<f64>;

pub fn conv_forward(g: &ConvGeom, x: &[f64], w: &[f64]) -> Maps {
    let (n, m) = (g.input.elements(), g.output().elements());
    let mut y = vec![0.0; x.len() / n * m];
    x.chunks(n).zip(y.chunks_mut(m)).for_each(|(x, y)| ConvF64 { x, w }.forward(g, y));
    y
}

pub fn conv_backward(g: &ConvGeom, x: &[f64], w: &[f64], dy: &[f64], dw: &mut [f64]) -> Maps {
    let (n, m) = (g.input.elements(), g.output().elements());
    let mut dx = vec![0.0; x.len()];
    let maps = x.chunks(n).zip(dx.chunks_mut(n)).zip(dy.chunks(m));
    maps.for_each(|((x, dx), dy)| ConvF64 { x, w }.backward(g, dy, dx, dw));
    dx
}

/// `(mean, rstd)` of every channel.
pub fn batch_statistics(x: &[f64], c: usize) -> Vec<(f64, f64)> {
    let n = (x.len() / c) as f64;
    let channel = |ch: usize| x[ch..].iter().step_by(c);
    let mean = |ch: usize| channel(ch).sum::<f64>() / n;
    (0..c)
        .map(|ch| (mean(ch), channel(ch).map(|v| (v - mean(ch)).powi(2)).sum::<f64>() / n))
        .map(|(m, v)| (m, 1.0 / (v + BN_EPSILON).sqrt()))
        .collect()
}

pub fn batch_norm_forward(x: &[f64], gamma: &[f64], beta: &[f64]) -> Maps {
    let c = gamma.len();
    let statistics = batch_statistics(x, c);
    let y = x.iter().enumerate().map(|(i, v)| {
        let (mean, rstd) = statistics[i % c];
        gamma[i % c] * (v - mean) * rstd + beta[i % c]
    });
    y.collect()
}

pub fn batch_norm_backward(x: &[f64], gamma: &[f64], dy: &[f64], dgamma: &mut [f64], dbeta: &mut [f64]) -> Maps {
    let c = gamma.len();
    let n = (x.len() / c) as f64;
    let statistics = batch_statistics(x, c);
    let xhat = |i: usize| (x[i] - statistics[i % c].0) * statistics[i % c].1;
    let (mut db, mut dg) = (vec![0.0; c], vec![0.0; c]);
    for (i, dy) in dy.iter().enumerate() {
        db[i % c] += dy;
        dg[i % c] += dy * xhat(i);
    }
    dgamma.iter_mut().zip(&dg).for_each(|(to, v)| *to += v);
    dbeta.iter_mut().zip(&db).for_each(|(to, v)| *to += v);
    let dx = dy.iter().enumerate().map(|(i, dy)| {
        let ch = i % c;
        gamma[ch] * statistics[ch].1 * (dy - db[ch] / n - xhat(i) * dg[ch] / n)
    });
    dx.collect()
}

pub fn relu_forward(x: &[f64]) -> Maps {
    x.iter().map(|v| v.max(0.0)).collect()
}

pub fn relu_backward(y: &[f64], dy: &[f64]) -> Maps {
    y.iter().zip(dy).map(|(y, dy)| if *y > 0.0 { *dy } else { 0.0 }).collect()
}

/// Pairs of elements of `x` and `y` that option A's shortcut connects, in one image.
fn pad_pairs(input: Shape, stride: usize, before: usize, c_out: usize) -> Vec<(usize, usize)> {
    let w = input.w.div_ceil(stride);
    let pixels = (0..input.h).step_by(stride).flat_map(|y| (0..input.w).step_by(stride).map(move |x| (y, x)));
    let pairs = pixels.flat_map(|(y, x)| {
        (0..input.c)
            .map(move |ch| ((y * input.w + x) * input.c + ch, (y / stride * w + x / stride) * c_out + before + ch))
    });
    pairs.collect()
}

pub fn pad_forward(input: Shape, stride: usize, before: usize, output: Shape, x: &[f64]) -> Maps {
    let mut y = vec![0.0; x.len() / input.elements() * output.elements()];
    for (x, y) in x.chunks(input.elements()).zip(y.chunks_mut(output.elements())) {
        pad_pairs(input, stride, before, output.c).into_iter().for_each(|(from, to)| y[to] = x[from]);
    }
    y
}

pub fn pad_backward(input: Shape, stride: usize, before: usize, output: Shape, dy: &[f64]) -> Maps {
    let mut dx = vec![0.0; dy.len() / output.elements() * input.elements()];
    for (dx, dy) in dx.chunks_mut(input.elements()).zip(dy.chunks(output.elements())) {
        pad_pairs(input, stride, before, output.c).into_iter().for_each(|(to, from)| dx[to] += dy[from]);
    }
    dx
}

/// `y` and which element of `x` each came from.
pub fn max_pool_forward(g: &PoolGeom, x: &[f64]) -> (Maps, Vec<usize>) {
    let (input, out) = (g.input, g.output());
    let mut found = Vec::new();
    for image in 0..x.len() / input.elements() {
        for (oy, ox) in (0..out.h).flat_map(|y| (0..out.w).map(move |x| (y, x))) {
            for ch in 0..out.c {
                let mut best = None;
                for (ky, kx) in (0..g.kernel).flat_map(|y| (0..g.kernel).map(move |x| (y, x))) {
                    let (y, x_) = ((oy * g.stride + ky).wrapping_sub(g.pad), (ox * g.stride + kx).wrapping_sub(g.pad));
                    if y >= input.h || x_ >= input.w {
                        continue;
                    }
                    let at = image * input.elements() + (y * input.w + x_) * input.c + ch;
                    if best.is_none_or(|b: usize| x[at] > x[b]) {
                        best = Some(at);
                    }
                }
                found.push(best.unwrap());
            }
        }
    }
    (found.iter().map(|&i| x[i]).collect(), found)
}

pub fn max_pool_backward(len: usize, found: &[usize], dy: &[f64]) -> Maps {
    let mut dx = vec![0.0; len];
    found.iter().zip(dy).for_each(|(&i, dy)| dx[i] += dy);
    dx
}

pub fn average_pool_forward(input: Shape, x: &[f64]) -> Maps {
    let pixels = (input.h * input.w) as f64;
    let mut y = vec![0.0; x.len() / input.elements() * input.c];
    for (x, y) in x.chunks(input.elements()).zip(y.chunks_mut(input.c)) {
        x.iter().enumerate().for_each(|(i, v)| y[i % input.c] += v / pixels);
    }
    y
}

pub fn average_pool_backward(input: Shape, dy: &[f64]) -> Maps {
    let pixels = (input.h * input.w) as f64;
    dy.chunks(input.c).flat_map(|dy| (0..input.elements()).map(move |i| dy[i % input.c] / pixels)).collect()
}

pub fn linear_forward(x: &[f64], w: &[f64], b: &[f64]) -> Maps {
    let inputs = w.len() / b.len();
    let row = |x: &[f64], o: usize| b[o] + x.iter().zip(&w[o * inputs..]).map(|(x, w)| x * w).sum::<f64>();
    x.chunks(inputs).flat_map(|x| (0..b.len()).map(|o| row(x, o)).collect::<Vec<_>>()).collect()
}

pub fn linear_backward(x: &[f64], w: &[f64], dy: &[f64], dw: &mut [f64], db: &mut [f64]) -> Maps {
    let (classes, inputs) = (db.len(), w.len() / db.len());
    let mut dx = vec![0.0; x.len()];
    for ((x, dx), dy) in x.chunks(inputs).zip(dx.chunks_mut(inputs)).zip(dy.chunks(classes)) {
        for o in 0..classes {
            db[o] += dy[o];
            for i in 0..inputs {
                dw[o * inputs + i] += dy[o] * x[i];
                dx[i] += dy[o] * w[o * inputs + i];
            }
        }
    }
    dx
}

/// Mean loss and its gradient.
pub fn cross_entropy(z: &[f64], labels: &[u32], smoothing: f64) -> (f64, Maps) {
    let classes = z.len() / labels.len();
    let n = labels.len() as f64;
    let mut loss = 0.0;
    let mut dz = Vec::new();
    for (z, &label) in z.chunks(classes).zip(labels) {
        let sum: f64 = z.iter().map(|v| v.exp()).sum();
        for (i, v) in z.iter().enumerate() {
            let hot = if i == label as usize { 1.0 - smoothing } else { 0.0 };
            let q = hot + smoothing / classes as f64;
            loss -= q * (v.exp() / sum).ln() / n;
            dz.push((v.exp() / sum - q) / n);
        }
    }
    (loss, dz)
}

/// A whole network: loss, and gradients of all parameters.
pub struct Reference<'p> {
    parameters: &'p Parameters,
    values: Vec<f64>,
    gradients: Vec<f64>,
}

struct ConvTape {
    spec: ConvSpec,
    x: Maps,
    y: Maps,
}

impl<'p> Reference<'p> {
    pub fn new(parameters: &'p Parameters) -> Self {
        let values: Vec<f64> = parameters.values().iter().map(|&v| f64::from(v)).collect();
        Reference { parameters, gradients: vec![0.0; values.len()], values }
    }

    pub fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    fn range(&self, name: &str) -> std::ops::Range<usize> {
        self.parameters.entry(name).unwrap().range.clone()
    }

    fn get(&self, name: &str) -> &[f64] {
        &self.values[self.range(name)]
    }

    fn conv_norm(&self, spec: &ConvSpec, x: &[f64]) -> (Maps, ConvTape) {
        let y = conv_forward(&spec.geom, x, self.get(&spec.name.dot("weight")));
        let out = batch_norm_forward(&y, self.get(&spec.bn.dot("weight")), self.get(&spec.bn.dot("bias")));
        (out, ConvTape { spec: *spec, x: x.to_vec(), y })
    }

    fn conv_norm_backward(&mut self, tape: &ConvTape, dy: &[f64]) -> Maps {
        let spec = &tape.spec;
        let (gamma, beta) = (self.range(&spec.bn.dot("weight")), self.range(&spec.bn.dot("bias")));
        let (mut dgamma, mut dbeta) = (vec![0.0; gamma.len()], vec![0.0; beta.len()]);
        let dy = batch_norm_backward(&tape.y, &self.values[gamma.clone()], dy, &mut dgamma, &mut dbeta);
        self.gradients[gamma].copy_from_slice(&dgamma);
        self.gradients[beta].copy_from_slice(&dbeta);
        let weight = self.range(&spec.name.dot("weight"));
        conv_backward(&spec.geom, &tape.x, &self.values[weight.clone()], &dy, &mut self.gradients[weight])
    }

    /// Mean loss of a batch; with `backward`, also all gradients.
    pub fn step(&mut self, images: &[f64], labels: &[u32], smoothing: f64, backward: bool) -> (f64, Vec<f64>) {
        let spec: ResNet = *self.parameters.spec();
        let stem = spec.stem();
        let (out, stem_tape) = self.conv_norm(&stem.conv, images);
        let stem_relu = relu_forward(&out);
        let (mut x, found) = match &stem.pool {
            Some(pool) => max_pool_forward(pool, &stem_relu),
            None => (stem_relu.clone(), Vec::new()),
        };
        let mut blocks = Vec::new();
        for block in spec.blocks() {
            let (mut tapes, mut relus) = (Vec::new(), Vec::new());
            let mut y = x.clone();
            for (i, conv) in block.convs().iter().enumerate() {
                let (out, tape) = self.conv_norm(conv, &y);
                tapes.push(tape);
                y = out;
                if i + 1 < block.convs().len() {
                    y = relu_forward(&y);
                    relus.push(y.clone());
                }
            }
            let (added, projection) = match &block.shortcut {
                ShortcutSpec::None => (vec![0.0; y.len()], None),
                ShortcutSpec::Identity => (x.clone(), None),
                &ShortcutSpec::Pad { stride, before, .. } => {
                    (pad_forward(block.input(), stride, before, block.output(), &x), None)
                }
                ShortcutSpec::Project(conv) => {
                    let (out, tape) = self.conv_norm(conv, &x);
                    (out, Some(tape))
                }
            };
            y.iter_mut().zip(&added).for_each(|(y, a)| *y += a);
            x = relu_forward(&y);
            relus.push(x.clone());
            blocks.push((block, tapes, relus, projection));
        }
        let head = spec.head();
        let features = average_pool_forward(head.input, &x);
        let logits = linear_forward(&features, self.get("fc.weight"), self.get("fc.bias"));
        let (loss, d_logits) = cross_entropy(&logits, labels, smoothing);
        if !backward {
            return (loss, Vec::new());
        }

        self.gradients.fill(0.0);
        let (w, b) = (self.range("fc.weight"), self.range("fc.bias"));
        let (mut dw, mut db) = (vec![0.0; w.len()], vec![0.0; b.len()]);
        let d_features = linear_backward(&features, &self.values[w.clone()], &d_logits, &mut dw, &mut db);
        self.gradients[w].copy_from_slice(&dw);
        self.gradients[b].copy_from_slice(&db);
        let mut dx = average_pool_backward(head.input, &d_features);
        for (block, tapes, relus, projection) in blocks.iter().rev() {
            let outer = relu_backward(relus.last().unwrap(), &dx);
            let mut dy = outer.clone();
            for (i, tape) in tapes.iter().enumerate().rev() {
                dy = self.conv_norm_backward(tape, &dy);
                if i > 0 {
                    dy = relu_backward(&relus[i - 1], &dy);
                }
            }
            let added = match &block.shortcut {
                ShortcutSpec::None => vec![0.0; dy.len()],
                ShortcutSpec::Identity => outer,
                &ShortcutSpec::Pad { stride, before, .. } => {
                    pad_backward(block.input(), stride, before, block.output(), &outer)
                }
                ShortcutSpec::Project(_) => self.conv_norm_backward(projection.as_ref().unwrap(), &outer),
            };
            dx = dy.iter().zip(&added).map(|(a, b)| a + b).collect();
        }
        if stem.pool.is_some() {
            dx = max_pool_backward(stem_relu.len(), &found, &dx);
        }
        let dx = relu_backward(&stem_relu, &dx);
        self.conv_norm_backward(&stem_tape, &dx);
        (loss, self.gradients.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    fn random(n: usize, seed: u64) -> Maps {
        let mut stream = Stream::new(seed, Purpose::Init, [9, 9]);
        (0..n).map(|_| stream.normal()).collect()
    }

    /// Checks `gradient` of `f` at `x` by central differences of fourth order; the loss is the sum of `f(x) * r`.
    fn check(what: &str, x: &[f64], r: &[f64], f: impl Fn(&[f64]) -> Maps, gradient: &[f64]) {
        let loss = |x: &[f64]| f(x).iter().zip(r).map(|(y, r)| y * r).sum::<f64>();
        let scale = gradient.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        assert!(scale > 0.0 && gradient.len() == x.len(), "{what}");
        for i in 0..x.len() {
            let at = |d: f64| {
                let mut x = x.to_vec();
                x[i] += d;
                loss(&x)
            };
            let h = 1e-3;
            let slope = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
            let error = (slope - gradient[i]).abs() / scale;
            assert!(error <= 1e-6, "{what} at {i}: {slope} for {}", gradient[i]);
        }
    }

    #[test]
    fn every_backward_matches_central_differences() {
        for (kernel, stride, pad) in [(3, 1, 1), (3, 2, 1), (1, 1, 0), (1, 2, 0), (7, 2, 3)] {
            let g = ConvGeom { input: Shape::new(6, 7, 2), c_out: 3, kernel, stride, pad };
            let (x, w) = (random(2 * g.input.elements(), 1), random(g.weight_len(), 2));
            let r = random(2 * g.output().elements(), 3);
            let mut dw = vec![0.0; w.len()];
            let dx = conv_backward(&g, &x, &w, &r, &mut dw);
            check("conv dx", &x, &r, |x| conv_forward(&g, x, &w), &dx);
            check("conv dw", &w, &r, |w| conv_forward(&g, &x, w), &dw);
        }
        let (x, gamma, beta, r) = (random(40, 1), random(4, 2), random(4, 3), random(40, 4));
        let (mut dgamma, mut dbeta) = (vec![0.0; 4], vec![0.0; 4]);
        let dx = batch_norm_backward(&x, &gamma, &r, &mut dgamma, &mut dbeta);
        check("batch norm dx", &x, &r, |x| batch_norm_forward(x, &gamma, &beta), &dx);
        check("batch norm dgamma", &gamma, &r, |gamma| batch_norm_forward(&x, gamma, &beta), &dgamma);
        check("batch norm dbeta", &beta, &r, |beta| batch_norm_forward(&x, &gamma, beta), &dbeta);

        // Kinks: keep away from zero and from ties by more than the differences' step.
        let x: Maps = random(60, 5).iter().map(|v| v + v.signum() * 0.01).collect();
        let r = random(60, 6);
        check("relu", &x, &r, relu_forward, &relu_backward(&relu_forward(&x), &r));
        let (input, output) = (Shape::new(5, 4, 3), Shape::new(3, 2, 8));
        let r = random(output.elements(), 6);
        for before in [0, 2] {
            let dx = pad_backward(input, 2, before, output, &r);
            check("pad", &x, &r, |x| pad_forward(input, 2, before, output, x), &dx);
        }
        let g = PoolGeom { input, kernel: 3, stride: 2, pad: 1 };
        let distinct: Maps = (0..60).map(|i| f64::from(i * 37 % 60)).collect();
        let r = random(g.output().elements(), 7);
        let dx = max_pool_backward(60, &max_pool_forward(&g, &distinct).1, &r);
        check("max pool", &distinct, &r, |x| max_pool_forward(&g, x).0, &dx);
        let r = random(3, 8);
        check("average pool", &x, &r, |x| average_pool_forward(input, x), &average_pool_backward(input, &r));

        let (x, w, b, r) = (random(10, 1), random(15, 2), random(3, 3), random(6, 4));
        let (mut dw, mut db) = (vec![0.0; 15], vec![0.0; 3]);
        let dx = linear_backward(&x, &w, &r, &mut dw, &mut db);
        check("linear dx", &x, &r, |x| linear_forward(x, &w, &b), &dx);
        check("linear dw", &w, &r, |w| linear_forward(&x, w, &b), &dw);
        check("linear db", &b, &r, |b| linear_forward(&x, &w, b), &db);
        for smoothing in [0.0, 0.1] {
            let z = random(12, 9);
            let dz = cross_entropy(&z, &[1, 3, 0], smoothing).1;
            check("cross entropy", &z, &[1.0], |z| vec![cross_entropy(z, &[1, 3, 0], smoothing).0], &dz);
        }
    }
}
