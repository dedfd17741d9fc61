//! Models with pseudo-random weights.

use alloc::vec::Vec;

use super::{AlignedBytes, Builder, FormatError};
use crate::{
    geom::Shape,
    quant::{Add, Conv, Encoding, Requant, Rounding, Window},
    resnet::{ConvSpec, ResNet, ShortcutSpec},
};

/// An int8 model of `net` with weights, biases and scales drawn from `seed`.
///
/// Activations keep a healthy spread through any depth, and weights are distributed about as trained ones. It classifies
/// nothing; it is for measuring and for comparing engines.
pub fn synthetic(net: &ResNet, seed: u64) -> Result<AlignedBytes, FormatError> {
    let mut draw = Draw { state: seed ^ 0x9e37_79b9_7f4a_7c15, model: Builder::new(net.input(), 0.02, -3) };
    draw.model.architecture(&alloc::format!("{net}"));
    let stem = net.stem();
    let mut x = draw.conv(&stem.conv, 0, true, None)?;
    if let Some(pool) = stem.pool {
        x = draw.model.max_pool("maxpool", x, &Window::from(pool))?;
    }
    for block in net.blocks() {
        let (stride, before, shortcut) = match block.shortcut {
            ShortcutSpec::None => (1, 0, None),
            ShortcutSpec::Identity => (1, 0, Some(x)),
            ShortcutSpec::Pad { stride, before, .. } => (stride, before, Some(x)),
            ShortcutSpec::Project(conv) => (1, 0, Some(draw.conv(&conv, x, false, None)?)),
        };
        let (last, inner) = block.convs().split_last().unwrap_or((&stem.conv, &[]));
        for conv in inner {
            x = draw.conv(conv, x, true, None)?;
        }
        x = draw.conv(last, x, shortcut.is_none(), shortcut.map(|s| (s, stride, before)))?;
    }
    let head = net.head();
    x = draw.model.global_average_pool("avgpool", x)?;
    draw.linear(&head.name, x, head.input.c, head.classes)?;
    draw.model.finish()
}

struct Draw {
    state: u64,
    model: Builder,
}

/// Every value has this scale; only the zero points and the rescaling factors matter to an engine.
const SCALE: f64 = 0.05;
const SIGNED: Encoding = Encoding { zero_point: 4, min: -128, max: 127 };
const RELU: Encoding = Encoding { zero_point: -128, min: -128, max: 127 };

impl Draw {
    /// Uniform in `0..n`.
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Most are small, as in trained networks: the mean of four.
    fn weight(&mut self) -> i8 {
        let sum: i32 = (self.next() as u32).to_le_bytes().into_iter().map(i32::from).sum();
        ((sum - 510) / 4) as i8
    }

    /// splitmix64
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn conv(
        &mut self,
        spec: &ConvSpec,
        source: usize,
        relu: bool,
        shortcut: Option<(usize, usize, usize)>,
    ) -> Result<usize, FormatError> {
        let output = if relu { RELU } else { SIGNED };
        self.any_conv(&spec.name, source, Window::from(spec.geom), output, shortcut)
    }

    fn linear(&mut self, name: &str, source: usize, features: usize, classes: usize) -> Result<usize, FormatError> {
        let (input, output) = (Shape::new(1, 1, features), Shape::new(1, 1, classes));
        let window = Window { input, output, kernel: 1, stride: 1, pad_top: 0, pad_left: 0 };
        self.any_conv(name, source, window, SIGNED, None)
    }

    fn any_conv(
        &mut self,
        name: &str,
        source: usize,
        window: Window,
        output: Encoding,
        shortcut: Option<(usize, usize, usize)>,
    ) -> Result<usize, FormatError> {
        let taps = window.taps();
        let c = window.output.c;
        let weights: Vec<i8> = (0..window.weight_len()).map(|_| self.weight()).collect();
        // A weight deviates by 37 and an input by about 60, so a sum deviates by 37 * 60 * sqrt(taps).
        let spread = 2200.0 * integer_sqrt(taps) as f64;
        let bias: Vec<i32> = (0..c).map(|_| self.below(2 * spread as u64) as i32 - spread as i32).collect();
        let draw_factor = |below: u64| Requant::from_scale(40.0 / spread * (0.6 + below as f64 / 1000.0));
        let factors: Vec<Requant> = (0..c).filter_map(|_| draw_factor(self.below(1000))).collect();
        let mult: Vec<i32> = factors.iter().map(|f| f.mult).collect();
        let shift: Vec<i8> = factors.iter().map(|f| f.shift).collect();
        let (_, _, input_zero) = self.model.value_of(source)?;
        let mut add = None;
        if let Some((value, stride, before)) = shortcut {
            let (map, _, shortcut_zero) = self.model.value_of(value)?;
            let [rescale_conv, rescale_shortcut, rescale_sum] =
                Add::factors(SCALE, SCALE * 0.8, SCALE * 1.1).unwrap_or_default();
            add = Some(Add {
                shortcut: map,
                stride,
                before,
                shortcut_zero,
                rescale_conv,
                rescale_shortcut,
                rescale_sum,
                output: RELU,
            });
        }
        let connected = window.input.h * window.input.w == 1 && window.kernel == 1 && shortcut.is_none();
        let rounding = if connected { Rounding::Once } else { Rounding::Twice };
        let conv = Conv {
            window,
            input_zero,
            weights: &weights,
            bias: &bias,
            mult: &mult,
            shift: &shift,
            rounding,
            output,
            add,
        };
        self.model.conv(name, source, &conv, SCALE as f32, shortcut.map(|(value, ..)| (value, SCALE as f32)))
    }
}

fn integer_sqrt(n: usize) -> usize {
    n.isqrt().max(1)
}
