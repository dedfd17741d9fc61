//! What a training step passes through: the convolutions, what each reads, and which maps are kept.
//!
//! A [`Topology`] holds numbers and shapes alone. An engine for f32 walks it with kernels, buffers and threads of
//! its own, so every such engine computes the same network.
//!
//! # Numbers
//! Convolutions are counted as PyTorch names them: the stem's, then those of each block, its projection last. Kept maps
//! are counted from the stem: map 0 is the stem's output (behind the max pool, if there is one), map `b + 1` the output
//! of block `b`. Batch norm belongs to the convolution before it and has its number.
//!
//! # Order
//! [`Topology::phases`] is the order of the forward pass: a phase is all the convolutions that read one map. Backward
//! takes the same phases from the last to the first.

use residual_core::{
    geom::{PoolGeom, Shape},
    resnet::{ConvSpec, HeadSpec, ResNet, ShortcutSpec},
};

/// The layers of a network in the order of a training step.
///
/// ```
/// use residual_train::topology::{Source, Topology};
///
/// let topology = Topology::new(&"resnet20-cifar-B".parse()?);
/// assert_eq!((topology.convs().len(), topology.blocks().len()), (21, 9));
/// // Block 3 begins the second stage: its first convolution and its projection read the map that block 2 left.
/// let phase = topology.phases().iter().find(|phase| phase.source == Source::Kept(3)).unwrap();
/// assert_eq!(topology.convs()[phase.conv].name.as_str(), "layer2.0.conv1");
/// assert_eq!(topology.convs()[phase.projection.unwrap()].name.as_str(), "layer2.0.downsample.0");
/// # Ok::<(), residual_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Topology {
    spec: ResNet,
    convs: Vec<ConvSpec>,
    pool: Option<PoolGeom>,
    blocks: Vec<Block>,
    head: HeadSpec,
    phases: Vec<Phase>,
}

/// A block: `y = ReLU(convs(x) + shortcut(x))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// number of the first convolution on the main path
    pub first: usize,
    /// number of the last one
    pub last: usize,
    /// number of the convolution on the shortcut
    pub projection: Option<usize>,
    /// what is added to the last convolution, behind its batch norm
    pub shortcut: ShortcutSpec,
    /// the map that the block reads
    pub input: Shape,
    /// the map that it leaves
    pub output: Shape,
}

/// What a convolution reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// the batch
    Images,
    /// the kept map of this number
    Kept(usize),
    /// the output of the convolution of this number, behind batch norm and ReLU
    Normalised(usize),
}

/// The convolutions that read one map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// what they read
    pub source: Source,
    /// the convolution on the main path
    pub conv: usize,
    /// the projection beside it, where it begins a block that has one
    pub projection: Option<usize>,
    /// the block that it begins
    pub begins: Option<usize>,
    /// whether what it leaves, behind batch norm, goes into a kept map: it ends a block, or is a stem without a pool
    pub ends: bool,
}

impl Phase {
    /// The convolutions that read the map: the one on the main path, and the projection.
    pub fn convs(&self) -> [Option<usize>; 2] {
        [Some(self.conv), self.projection]
    }
}

impl Topology {
    /// Walks over the layers of `spec`.
    pub fn new(spec: &ResNet) -> Self {
        let stem = spec.stem();
        let mut convs = vec![stem.conv];
        let stem_ends = stem.pool.is_none();
        let mut phases =
            vec![Phase { source: Source::Images, conv: 0, projection: None, begins: None, ends: stem_ends }];
        let mut blocks = Vec::new();
        for (b, block) in spec.blocks().enumerate() {
            let first = convs.len();
            convs.extend(block.convs());
            let last = convs.len() - 1;
            let projection = match block.shortcut {
                ShortcutSpec::Project(conv) => {
                    convs.push(conv);
                    Some(last + 1)
                }
                ShortcutSpec::None | ShortcutSpec::Identity | ShortcutSpec::Pad { .. } => None,
            };
            phases.extend((first..=last).map(|conv| {
                let begins = (conv == first).then_some(b);
                Phase {
                    source: begins.map_or_else(|| Source::Normalised(conv - 1), Source::Kept),
                    conv,
                    projection: projection.filter(|_| begins.is_some()),
                    begins,
                    ends: conv == last,
                }
            }));
            let (input, output) = (block.input(), block.output());
            blocks.push(Block { first, last, projection, shortcut: block.shortcut, input, output });
        }
        Topology { spec: *spec, convs, pool: stem.pool, blocks, head: spec.head(), phases }
    }

    /// The network.
    pub fn spec(&self) -> &ResNet {
        &self.spec
    }

    /// An image of the batch.
    pub fn input(&self) -> Shape {
        self.spec.input()
    }

    /// Every convolution, with its name, its batch norm's and its shape.
    pub fn convs(&self) -> &[ConvSpec] {
        &self.convs
    }

    /// The max pool behind the stem's convolution.
    pub fn pool(&self) -> Option<&PoolGeom> {
        self.pool.as_ref()
    }

    /// Every block.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The average pool and the classifier, which read [`Topology::last_kept`].
    pub fn head(&self) -> &HeadSpec {
        &self.head
    }

    /// The phases of the forward pass, in order.
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// How many maps are kept: the stem's and one a block.
    pub fn kept(&self) -> usize {
        self.blocks.len() + 1
    }

    /// The number of the kept map that the head reads.
    pub fn last_kept(&self) -> usize {
        self.blocks.len()
    }

    /// The shape of kept map `v`.
    ///
    /// # Panics
    /// When there is no such map.
    pub fn kept_shape(&self, v: usize) -> Shape {
        match v.checked_sub(1) {
            Some(b) => self.blocks[b].output,
            None => self.pool.map_or(self.convs[0].geom.output(), |pool| pool.output()),
        }
    }

    /// The convolutions whose batch norms a map is the sum of, before ReLU: none for the batch, and none for what
    /// comes out of the max pool.
    ///
    /// # Panics
    /// When there is no such map.
    pub fn producers(&self, source: Source) -> [Option<usize>; 2] {
        match source {
            Source::Images => [None, None],
            Source::Normalised(k) => [Some(k), None],
            Source::Kept(0) => [Some(0).filter(|_| self.pool.is_none()), None],
            Source::Kept(v) => [Some(self.blocks[v - 1].last), self.blocks[v - 1].projection],
        }
    }

    /// Whether convolution `k` is on a shortcut.
    pub fn is_projection(&self, k: usize) -> bool {
        self.blocks.iter().any(|block| block.projection == Some(k))
    }

    /// Elements of the largest map that a convolution reads or writes, for one image.
    pub fn largest_map(&self) -> usize {
        let maps = self.convs.iter().flat_map(|conv| [conv.geom.input, conv.geom.output()]);
        maps.map(Shape::elements).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use residual_core::{geom::Shape, resnet::ShortcutSpec};

    use super::{Phase, Source, Topology};

    const NAMES: [&str; 8] = [
        "resnet8-cifar",
        "plain8-cifar",
        "resnet8-cifar-B",
        "resnet11-cifar-bottleneck-C",
        "resnet18",
        "resnet18-A",
        "resnet50",
        "resnet50-v1",
    ];

    fn topology(name: &str) -> Topology {
        Topology::new(&name.parse().unwrap())
    }

    #[test]
    fn convolutions_are_counted_in_pytorchs_order() {
        for name in NAMES {
            let topology = topology(name);
            assert!(topology.convs().iter().copied().eq(topology.spec().convs()), "{name}");
        }
    }

    #[test]
    fn a_small_network_with_a_projection_has_these_phases() {
        // conv1; conv1 and conv2 of three blocks, and a projection in the second and the third.
        let topology = topology("resnet8-cifar-B");
        let phase = |source, conv, projection, begins, ends| Phase { source, conv, projection, begins, ends };
        let want = [
            phase(Source::Images, 0, None, None, true),
            phase(Source::Kept(0), 1, None, Some(0), false),
            phase(Source::Normalised(1), 2, None, None, true),
            phase(Source::Kept(1), 3, Some(5), Some(1), false),
            phase(Source::Normalised(3), 4, None, None, true),
            phase(Source::Kept(2), 6, Some(8), Some(2), false),
            phase(Source::Normalised(6), 7, None, None, true),
        ];
        assert_eq!(topology.phases(), want);
        assert_eq!(topology.producers(Source::Kept(1)), [Some(2), None]);
        assert_eq!(topology.producers(Source::Kept(2)), [Some(4), Some(5)]);
        assert_eq!((topology.kept(), topology.last_kept()), (4, 3));
        assert_eq!((0..9).filter(|&k| topology.is_projection(k)).collect::<Vec<_>>(), [5, 8]);
    }

    #[test]
    fn every_convolution_reads_a_map_of_its_shape_once() {
        for name in NAMES {
            let topology = topology(name);
            let mut seen = vec![0; topology.convs().len()];
            for phase in topology.phases() {
                let map = match phase.source {
                    Source::Images => topology.input(),
                    Source::Kept(v) => topology.kept_shape(v),
                    Source::Normalised(k) => topology.convs()[k].geom.output(),
                };
                for k in phase.convs().into_iter().flatten() {
                    assert_eq!(topology.convs()[k].geom.input, map, "{name}: {}", topology.convs()[k].name);
                    seen[k] += 1;
                }
            }
            assert!(seen.iter().all(|&n| n == 1), "{name}: {seen:?}");
            assert_eq!(topology.kept_shape(topology.last_kept()), topology.head().input, "{name}");
        }
    }

    #[test]
    fn what_goes_into_a_kept_map_has_its_shape() {
        for name in NAMES {
            let topology = topology(name);
            for v in 0..topology.kept() {
                for k in topology.producers(Source::Kept(v)).into_iter().flatten() {
                    assert_eq!(topology.convs()[k].geom.output(), topology.kept_shape(v), "{name}: map {v}");
                }
            }
            let ends = topology.phases().iter().filter(|phase| phase.ends).map(|phase| phase.conv);
            let produced = (0..topology.kept()).filter_map(|v| topology.producers(Source::Kept(v))[0]);
            assert!(ends.eq(produced), "{name}");
        }
    }

    #[test]
    fn a_pool_stands_between_the_stem_and_the_first_map() {
        let topology = topology("resnet50");
        assert_eq!(topology.kept_shape(0), Shape::new(56, 56, 64));
        assert_eq!(topology.producers(Source::Kept(0)), [None, None]);
        assert!(!topology.phases()[0].ends && topology.pool().is_some());
        assert_eq!(topology.largest_map(), 112 * 112 * 64);
        let block = topology.blocks()[0];
        assert!((block.first, block.last, block.projection) == (1, 3, Some(4)));
        assert!(matches!(block.shortcut, ShortcutSpec::Project(conv) if conv == topology.convs()[4]));
    }
}
