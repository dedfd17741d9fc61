//! Walking a [`ResNet`]: every layer with its torchvision name, its shape and its tensors.

use super::spec::{Block, ResNet, Shortcut, Stem, StridePlacement, ZeroChannels};
use crate::{
    Name,
    geom::{ConvGeom, PoolGeom, Shape},
};

/// A convolution and the batch norm after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvSpec {
    /// such as `layer1.0.conv1`
    pub name: Name,
    /// such as `layer1.0.bn1`
    pub bn: Name,
    /// its shape
    pub geom: ConvGeom,
}

/// What a block adds to its last convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortcutSpec {
    /// nothing: a plain network
    None,
    /// the block's input
    Identity,
    /// every `stride`-th pixel of the block's input between zero channels (option A)
    Pad {
        /// stride of both axes
        stride: usize,
        /// zero channels before
        before: usize,
        /// zero channels after
        after: usize,
    },
    /// a 1x1 convolution with batch norm (options B and C)
    Project(ConvSpec),
}

/// A block: `y = ReLU(convs(x) + shortcut(x))`, with batch norm after each convolution and ReLU
/// between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSpec {
    /// such as `layer1.0`
    pub name: Name,
    convs: [ConvSpec; 3],
    len: usize,
    /// what is added before the last ReLU
    pub shortcut: ShortcutSpec,
}

impl BlockSpec {
    /// The two or three convolutions on the main path, in order.
    pub fn convs(&self) -> &[ConvSpec] {
        &self.convs[..self.len]
    }

    /// The map it reads.
    pub fn input(&self) -> Shape {
        self.convs[0].geom.input
    }

    /// The map it writes.
    pub fn output(&self) -> Shape {
        self.convs[self.len - 1].geom.output()
    }
}

/// The first convolution (with ReLU) and, for ImageNet, the max pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StemSpec {
    /// `conv1` and `bn1`
    pub conv: ConvSpec,
    /// 3x3/2 max pool
    pub pool: Option<PoolGeom>,
}

/// Global average pool and the fully connected classifier `fc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadSpec {
    /// `fc`
    pub name: Name,
    /// the map that is averaged
    pub input: Shape,
    /// outputs
    pub classes: usize,
}

/// A tensor the network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// such as `layer1.0.conv1.weight`
    pub name: Name,
    dims: [usize; 4],
    rank: usize,
    /// learned, as opposed to a running statistic
    pub learned: bool,
}

impl TensorSpec {
    /// A tensor of this shape, in PyTorch's order.
    ///
    /// # Panics
    /// When `shape` has more than 4 extents.
    pub fn new(name: Name, shape: &[usize], learned: bool) -> Self {
        let mut dims = [1; 4];
        dims[..shape.len()].copy_from_slice(shape);
        TensorSpec { name, dims, rank: shape.len(), learned }
    }

    /// Extents in PyTorch's order.
    pub fn shape(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// Elements.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

impl ConvSpec {
    /// The convolution's weight and the batch norm's four tensors.
    pub fn tensors(&self) -> [TensorSpec; 5] {
        let ConvGeom { input, c_out, kernel, .. } = self.geom;
        let bn = |suffix, learned| TensorSpec::new(self.bn.dot(suffix), &[c_out], learned);
        [
            TensorSpec::new(self.name.dot("weight"), &[c_out, input.c, kernel, kernel], true),
            bn("weight", true),
            bn("bias", true),
            bn("running_mean", false),
            bn("running_var", false),
        ]
    }
}

impl HeadSpec {
    /// `fc.weight` and `fc.bias`.
    pub fn tensors(&self) -> [TensorSpec; 2] {
        [
            TensorSpec::new(self.name.dot("weight"), &[self.classes, self.input.c], true),
            TensorSpec::new(self.name.dot("bias"), &[self.classes], true),
        ]
    }
}

impl ResNet {
    /// The first layers.
    pub fn stem(&self) -> StemSpec {
        let (kernel, stride, pad) = match self.stem_kind() {
            Stem::ImageNet => (7, 2, 3),
            Stem::Cifar => (3, 1, 1),
        };
        let geom = ConvGeom { input: self.input(), c_out: self.width(), kernel, stride, pad };
        let pool = match self.stem_kind() {
            Stem::ImageNet => Some(PoolGeom { input: geom.output(), kernel: 3, stride: 2, pad: 1 }),
            Stem::Cifar => None,
        };
        StemSpec { conv: ConvSpec { name: Name::new("conv1"), bn: Name::new("bn1"), geom }, pool }
    }

    /// The blocks of all stages, in order.
    pub fn blocks(&self) -> impl Iterator<Item = BlockSpec> + '_ {
        let stem = self.stem();
        let mut input = stem.pool.map_or(stem.conv.geom.output(), |p| p.output());
        self.stages().iter().enumerate().flat_map(|(s, &n)| (0..n).map(move |i| (s, i))).map(move |(s, i)| {
            let stride = if s > 0 && i == 0 { 2 } else { 1 };
            let block = self.block_at(Name::new(format_args!("layer{}.{i}", s + 1)), input, self.width() << s, stride);
            input = block.output();
            block
        })
    }

    /// The last layers.
    pub fn head(&self) -> HeadSpec {
        let stages = self.stages().len();
        let stem = self.stem();
        let mut map = stem.pool.map_or(stem.conv.geom.output(), |p| p.output());
        for _ in 1..stages {
            map.h = map.h.div_ceil(2);
            map.w = map.w.div_ceil(2);
        }
        map.c = (self.width() << (stages - 1)) * self.block().expansion();
        HeadSpec { name: Name::new("fc"), input: map, classes: self.classes() }
    }

    /// Every convolution, projections included, in the order PyTorch names them.
    pub fn convs(&self) -> impl Iterator<Item = ConvSpec> + '_ {
        core::iter::once(self.stem().conv).chain(self.blocks().flat_map(|block| {
            let project = match block.shortcut {
                ShortcutSpec::Project(conv) => Some(conv),
                _ => None,
            };
            (0..block.len).map(move |i| block.convs[i]).chain(project)
        }))
    }

    /// Every tensor, `num_batches_tracked` left out.
    pub fn tensors(&self) -> impl Iterator<Item = TensorSpec> + '_ {
        self.convs().flat_map(|conv| conv.tensors()).chain(self.head().tensors())
    }

    /// Learned parameters.
    pub fn params(&self) -> u64 {
        self.tensors().filter(|t| t.learned).map(|t| t.elements() as u64).sum()
    }

    /// Multiply-adds of the convolutions and the classifier for one image.
    pub fn macs(&self) -> u64 {
        let head = self.head();
        self.convs().map(|conv| conv.geom.macs()).sum::<u64>() + (head.input.c * head.classes) as u64
    }

    fn block_at(&self, name: Name, input: Shape, width: usize, stride: usize) -> BlockSpec {
        let c_out = width * self.block().expansion();
        let conv = |i: usize, input: Shape, c_out, kernel, stride| ConvSpec {
            name: name.dot(format_args!("conv{i}")),
            bn: name.dot(format_args!("bn{i}")),
            geom: ConvGeom { input, c_out, kernel, stride, pad: kernel / 2 },
        };
        let (convs, len) = match self.block() {
            Block::Basic => {
                let a = conv(1, input, width, 3, stride);
                let b = conv(2, a.geom.output(), width, 3, 1);
                ([a, b, b], 2)
            }
            Block::Bottleneck(placement) => {
                let (s1, s2) = match placement {
                    StridePlacement::Conv1 => (stride, 1),
                    StridePlacement::Conv2 => (1, stride),
                };
                let a = conv(1, input, width, 1, s1);
                let b = conv(2, a.geom.output(), width, 3, s2);
                let c = conv(3, b.geom.output(), c_out, 1, 1);
                ([a, b, c], 3)
            }
        };
        let changes = stride != 1 || input.c != c_out;
        let project = || {
            ShortcutSpec::Project(ConvSpec {
                name: name.dot("downsample.0"),
                bn: name.dot("downsample.1"),
                geom: ConvGeom { input, c_out, kernel: 1, stride, pad: 0 },
            })
        };
        let shortcut = match self.shortcut() {
            Shortcut::None => ShortcutSpec::None,
            Shortcut::C => project(),
            _ if !changes => ShortcutSpec::Identity,
            Shortcut::B => project(),
            Shortcut::A(zeros) => {
                let new = c_out - input.c;
                let before = match zeros {
                    ZeroChannels::After => 0,
                    ZeroChannels::Split => new / 2,
                };
                ShortcutSpec::Pad { stride, before, after: new - before }
            }
        };
        BlockSpec { name, convs, len, shortcut }
    }
}
