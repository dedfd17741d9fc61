//! The specification of a residual or plain network, and the grammar of its name.

use core::{fmt, str::FromStr};

use crate::{Error, geom::Shape};

/// How the network begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stem {
    /// 7x7/2 convolution and 3x3/2 max pool, four stages (Table 1).
    ImageNet,
    /// 3x3 convolution, three stages (section 4.2).
    Cifar,
}

/// Where a down-sampling bottleneck block has its stride.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StridePlacement {
    /// In the first 1x1 convolution, as in the paper ("v1").
    Conv1,
    /// In the 3x3 convolution, as in torchvision ("v1.5").
    Conv2,
}

/// The repeated unit of a stage (Fig. 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3, and a 1x1 to four times the width.
    Bottleneck(StridePlacement),
}

impl Block {
    /// Output channels over width: 1 or 4.
    pub const fn expansion(self) -> usize {
        match self {
            Block::Basic => 1,
            Block::Bottleneck(_) => 4,
        }
    }

    /// Convolutions in a block, projection not counted.
    pub const fn convs(self) -> usize {
        match self {
            Block::Basic => 2,
            Block::Bottleneck(_) => 3,
        }
    }
}

/// Where option A puts the new zero channels. Both occur in public weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ZeroChannels {
    /// All after the old channels.
    After,
    /// Half before, half after.
    Split,
}

/// The shortcut of each block (section 4.1, "Identity vs. Projection Shortcuts").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shortcut {
    /// No shortcuts: a plain network.
    None,
    /// Identity everywhere; where the shape changes, strided and padded with zero channels.
    A(ZeroChannels),
    /// 1x1 projection where the shape changes, identity elsewhere.
    B,
    /// 1x1 projection everywhere.
    C,
}

/// A network of the paper, as a small constant value.
///
/// # Names
/// `{resnet|plain}DEPTH[-cifar][-bottleneck][-A|-Ac|-B|-C][-v1][-wN][-inN]`, for example `resnet50`,
/// `resnet50-v1`, `resnet56-cifar-Ac`, `plain20-cifar`, `resnet20-cifar-in1`. ImageNet networks use shortcut B unless
/// told, CIFAR networks A; `-Ac` splits the zero channels before and after. `-v1` puts a
/// bottleneck's stride in its first 1x1 convolution. `-wN` sets the width of the first stage
/// (64 or 16 by default), `-inN` the channels of the input (3 by default: RGB; 1 is grey).
///
/// ```
/// use residual_core::resnet::ResNet;
/// let net: ResNet = "resnet50".parse()?;
/// assert_eq!((net.params(), net.macs()), (25_557_032, 4_089_184_256));
/// assert_eq!(net.with_classes(10)?.params(), 23_528_522);
/// # Ok::<(), residual_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResNet {
    stem: Stem,
    block: Block,
    stages: [u16; 4],
    width: u16,
    shortcut: Shortcut,
    classes: u32,
    side: (u16, u16),
    channels: u16,
}

/// Most convolutions a name may ask for: guards against absurd arguments, far above 1202.
const MAX_DEPTH: usize = 20_000;

/// Channels of the input unless a network says otherwise.
const RGB: u16 = 3;

impl ResNet {
    /// ResNet-18, 34, 50, 101 or 152 for 224x224 images and 1000 classes (Table 1), shortcut B,
    /// stride in the 3x3 convolution.
    pub const fn imagenet(depth: usize) -> Result<Self, Error> {
        let (block, stages) = match depth {
            18 => (Block::Basic, [2, 2, 2, 2]),
            34 => (Block::Basic, [3, 4, 6, 3]),
            50 => (Block::Bottleneck(StridePlacement::Conv2), [3, 4, 6, 3]),
            101 => (Block::Bottleneck(StridePlacement::Conv2), [3, 4, 23, 3]),
            152 => (Block::Bottleneck(StridePlacement::Conv2), [3, 8, 36, 3]),
            _ => {
                return Err(Error::UnknownArchitecture {
                    reason: "the ImageNet networks have 18, 34, 50, 101 or 152 layers",
                });
            }
        };
        Ok(ResNet {
            stem: Stem::ImageNet,
            block,
            stages,
            width: 64,
            shortcut: Shortcut::B,
            classes: 1000,
            side: (224, 224),
            channels: RGB,
        })
    }

    /// The CIFAR network of `6n + 2` layers (`9n + 2` with bottleneck blocks) for 32x32 images and
    /// 10 classes, shortcut A with the zeros after.
    pub const fn cifar(depth: usize, block: Block) -> Result<Self, Error> {
        let per_n = 3 * block.convs();
        if depth < per_n + 2 || depth > MAX_DEPTH || !(depth - 2).is_multiple_of(per_n) {
            return Err(Error::UnknownArchitecture {
                reason: "a CIFAR network has 6n + 2 layers (20, 32, 44, 56, 110, 1202 ...), 9n + 2 with bottlenecks",
            });
        }
        let n = ((depth - 2) / per_n) as u16;
        Ok(ResNet {
            stem: Stem::Cifar,
            block,
            stages: [n, n, n, 0],
            width: 16,
            shortcut: Shortcut::A(ZeroChannels::After),
            classes: 10,
            side: (32, 32),
            channels: RGB,
        })
    }

    /// The same network with another shortcut option.
    pub const fn with_shortcut(mut self, shortcut: Shortcut) -> Self {
        self.shortcut = shortcut;
        self
    }

    /// The same network with a bottleneck's stride elsewhere; basic blocks have only one place.
    pub const fn with_stride_placement(mut self, placement: StridePlacement) -> Self {
        if let Block::Bottleneck(_) = self.block {
            self.block = Block::Bottleneck(placement);
        }
        self
    }

    /// The same network for another number of classes.
    pub const fn with_classes(mut self, classes: usize) -> Result<Self, Error> {
        if classes == 0 || classes > 1 << 24 {
            return Err(Error::InvalidNetwork { reason: "the class count must be between 1 and 16777216" });
        }
        self.classes = classes as u32;
        Ok(self)
    }

    /// The same network with another width of its first stage; later stages double it.
    pub const fn with_width(mut self, width: usize) -> Result<Self, Error> {
        if width == 0 || width > 4096 {
            return Err(Error::InvalidNetwork { reason: "the width must be between 1 and 4096" });
        }
        self.width = width as u16;
        Ok(self)
    }

    /// The same network on images of `h` x `w` pixels (the networks are fully convolutional).
    pub const fn with_input(mut self, h: usize, w: usize) -> Result<Self, Error> {
        if h == 0 || w == 0 || h > 8192 || w > 8192 {
            return Err(Error::InvalidNetwork { reason: "the input must be between 1 and 8192 pixels a side" });
        }
        self.side = (h as u16, w as u16);
        Ok(self)
    }

    /// The same network on inputs of another number of channels: 1 for grey pictures, any for other measurements.
    pub const fn with_channels(mut self, channels: usize) -> Result<Self, Error> {
        if channels == 0 || channels > 4096 {
            return Err(Error::InvalidNetwork { reason: "the input must have 1 to 4096 channels" });
        }
        self.channels = channels as u16;
        Ok(self)
    }

    /// How the network begins.
    pub const fn stem_kind(&self) -> Stem {
        self.stem
    }

    /// The block it repeats.
    pub const fn block(&self) -> Block {
        self.block
    }

    /// Its shortcut option.
    pub const fn shortcut(&self) -> Shortcut {
        self.shortcut
    }

    /// Number of classes.
    pub const fn classes(&self) -> usize {
        self.classes as usize
    }

    /// Channels of the first stage.
    pub const fn width(&self) -> usize {
        self.width as usize
    }

    /// Blocks of each stage.
    pub fn stages(&self) -> &[u16] {
        match self.stem {
            Stem::ImageNet => &self.stages,
            Stem::Cifar => &self.stages[..3],
        }
    }

    /// The input map: rows, columns and channels.
    pub const fn input(&self) -> Shape {
        Shape::new(self.side.0 as usize, self.side.1 as usize, self.channels as usize)
    }

    /// Layers in the paper's sense: convolutions on the main path and the classifier.
    pub fn depth(&self) -> usize {
        let blocks: usize = self.stages().iter().map(|&n| n as usize).sum();
        2 + blocks * self.block.convs()
    }
}

impl fmt::Display for ResNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.shortcut == Shortcut::None { "plain" } else { "resnet" };
        write!(f, "{kind}{}", self.depth())?;
        let cifar = self.stem == Stem::Cifar;
        if cifar {
            f.write_str("-cifar")?;
            if let Block::Bottleneck(_) = self.block {
                f.write_str("-bottleneck")?;
            }
        }
        match self.shortcut {
            Shortcut::A(ZeroChannels::After) if !cifar => f.write_str("-A")?,
            Shortcut::A(ZeroChannels::Split) => f.write_str("-Ac")?,
            Shortcut::B if cifar => f.write_str("-B")?,
            Shortcut::C => f.write_str("-C")?,
            _ => {}
        }
        if self.block == Block::Bottleneck(StridePlacement::Conv1) {
            f.write_str("-v1")?;
        }
        if self.width != if cifar { 16 } else { 64 } {
            write!(f, "-w{}", self.width)?;
        }
        if self.channels != RGB {
            write!(f, "-in{}", self.channels)?;
        }
        Ok(())
    }
}

impl FromStr for ResNet {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let unknown = |reason| Error::UnknownArchitecture { reason };
        let mut parts = name.split('-');
        let head = parts.next().unwrap_or_default();
        let (plain, depth) = match (head.strip_prefix("resnet"), head.strip_prefix("plain")) {
            (Some(depth), _) => (false, depth),
            (_, Some(depth)) => (true, depth),
            _ => {
                return Err(unknown("a name begins with `resnet` or `plain`, for example resnet50 or plain20-cifar"));
            }
        };
        let depth: usize = depth
            .parse()
            .map_err(|_| unknown("the number of layers must follow `resnet` or `plain`, for example resnet50"))?;

        let (mut cifar, mut bottleneck, mut v1) = (false, false, false);
        let (mut shortcut, mut width, mut channels) = (None, None, None);
        for part in parts {
            let fresh = match part {
                "cifar" => !core::mem::replace(&mut cifar, true),
                "bottleneck" => !core::mem::replace(&mut bottleneck, true),
                "v1" => !core::mem::replace(&mut v1, true),
                "A" => shortcut.replace(Shortcut::A(ZeroChannels::After)).is_none(),
                "Ac" => shortcut.replace(Shortcut::A(ZeroChannels::Split)).is_none(),
                "B" => shortcut.replace(Shortcut::B).is_none(),
                "C" => shortcut.replace(Shortcut::C).is_none(),
                _ => match (number(part, "w"), number(part, "in")) {
                    (Some(w), _) => width.replace(w).is_none(),
                    (_, Some(n)) => channels.replace(n).is_none(),
                    _ => return Err(unknown("suffixes are -cifar, -bottleneck, -A, -Ac, -B, -C, -v1, -wN and -inN")),
                },
            };
            if !fresh {
                return Err(unknown("a suffix is given twice, or two shortcut options at once"));
            }
        }

        let mut net = match (cifar, bottleneck) {
            (true, false) => ResNet::cifar(depth, Block::Basic)?,
            (true, true) => ResNet::cifar(depth, Block::Bottleneck(StridePlacement::Conv2))?,
            (false, false) => ResNet::imagenet(depth)?,
            (false, true) => return Err(unknown("an ImageNet network's depth already says its block")),
        };
        if v1 && net.block == Block::Basic {
            return Err(unknown("-v1 places a bottleneck's stride; this network has basic blocks"));
        }
        if v1 {
            net = net.with_stride_placement(StridePlacement::Conv1);
        }
        if plain && shortcut.is_some() {
            return Err(unknown("a plain network has no shortcuts"));
        }
        if plain {
            net = net.with_shortcut(Shortcut::None);
        }
        if let Some(shortcut) = shortcut {
            net = net.with_shortcut(shortcut);
        }
        if let Some(width) = width {
            net = net.with_width(width)?;
        }
        match channels {
            Some(channels) => net.with_channels(channels),
            None => Ok(net),
        }
    }
}

/// The number behind `letters`.
fn number(part: &str, letters: &str) -> Option<usize> {
    part.strip_prefix(letters)?.parse().ok()
}
