//! Does a file hold the tensors of a network, and which network is it?

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

use residual_core::resnet::{Block, ResNet, Shortcut, StridePlacement, ZeroChannels};

use super::{ImportError, WeightFile, error::clean, keys};

/// Everything in which a file and a network disagree. Displayed on one line; long lists are cut.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// the file
    pub file: String,
    /// the network
    pub network: ResNet,
    /// tensors the file lacks, with the shape the network needs
    pub missing: Vec<(String, Vec<usize>)>,
    /// tensors with another shape: name, the file's, the network's
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// tensors the network does not have, with their shape
    pub unexpected: Vec<(String, Vec<usize>)>,
    /// NaN, infinity or a negative variance: tensor, flat index and value of the first
    pub unusable: Vec<(String, usize, f32)>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not fit {}: ", self.file, self.network)?;
        let mut first = true;
        list(f, &mut first, "missing ", &self.missing, |f, (name, shape)| write!(f, "{name} {shape:?}"))?;
        list(f, &mut first, "", &self.misshapen, |f, (name, found, needed)| {
            write!(f, "{name} has {found:?}, needs {needed:?}")
        })?;
        list(f, &mut first, "unexpected ", &self.unexpected, |f, (name, shape)| {
            write!(f, "{} {shape:?}", clean(name))
        })?;
        list(f, &mut first, "", &self.unusable, |f, (name, index, value)| {
            write!(f, "{}[{index}] is {value}", clean(name))
        })
    }
}

fn list<T>(
    f: &mut fmt::Formatter<'_>,
    first: &mut bool,
    title: &str,
    items: &[T],
    show: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    /// Items shown of each kind.
    const SHOWN: usize = 6;
    for (i, item) in items.iter().take(SHOWN).enumerate() {
        let before = match (i, &first) {
            (0, true) => "",
            (0, false) => "; ",
            _ => ", ",
        };
        write!(f, "{before}{}", if i == 0 { title } else { "" })?;
        show(f, item)?;
        *first = false;
    }
    match items.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

/// Tensor names and shapes of a network as trained, or with its batch norms folded: then each
/// convolution has a bias instead.
fn needed(spec: &ResNet, folded: bool) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
    let convs = spec.convs().flat_map(move |conv| {
        let [weight, norm @ ..] = conv.tensors();
        let bias = folded.then(|| (conv.name.dot("bias").to_string(), vec![conv.geom.c_out]));
        let norm = (!folded).then_some(norm).into_iter().flatten();
        let own = std::iter::once(weight).chain(norm).map(|t| (t.name.to_string(), t.shape().to_vec()));
        own.chain(bias)
    });
    convs.chain(spec.head().tensors().map(|t| (t.name.to_string(), t.shape().to_vec())))
}

/// A file is folded if it has the first convolution's bias and not its batch norm.
fn is_folded(file: &WeightFile) -> bool {
    file.shape("conv1.bias").is_some() && file.shape("bn1.weight").is_none()
}

/// Checks that `file` holds exactly the tensors of `spec`, with their shapes, and that every value is
/// usable: finite, and no running variance negative.
///
/// Batch norms may be folded into the convolutions, which then have a `bias`, but only all of them.
///
/// # Errors
/// [`ImportError::Mismatch`], which lists everything that disagrees; [`ImportError::Tensor`] for one that cannot be read.
pub fn check(spec: &ResNet, file: &WeightFile) -> Result<(), ImportError> {
    let mut found = Mismatch {
        file: file.file(),
        network: *spec,
        missing: Vec::new(),
        misshapen: Vec::new(),
        unexpected: Vec::new(),
        unusable: Vec::new(),
    };
    let mut known = HashSet::new();
    for (name, shape) in needed(spec, is_folded(file)) {
        match file.shape(&name) {
            None => found.missing.push((name, shape)),
            Some(got) => {
                if got != shape {
                    found.misshapen.push((name.clone(), got.to_vec(), shape));
                }
                known.insert(name);
            }
        }
    }
    let mut room = Vec::new();
    for (name, entry) in &file.tensors {
        if !known.contains(name) {
            found.unexpected.push((name.clone(), entry.shape().to_vec()));
        }
        if let Some((index, value)) = entry.first_unusable(&mut room)? {
            found.unusable.push((name.clone(), index, value));
        }
    }
    let agrees = found.missing.is_empty()
        && found.misshapen.is_empty()
        && found.unexpected.is_empty()
        && found.unusable.is_empty();
    if agrees { Ok(()) } else { Err(ImportError::Mismatch(Box::new(found))) }
}

/// Are the names and shapes exactly those of `spec`? Stops at the first difference.
fn fits(spec: &ResNet, file: &WeightFile) -> bool {
    let mut count = 0;
    let all = needed(spec, is_folded(file)).all(|(name, shape)| {
        count += 1;
        file.shape(&name) == Some(&shape)
    });
    all && count == file.names().len()
}

/// The network that `file` holds, with the file's number of classes: the one its metadata names, or `arch`. Where the name
/// says no input channels, the first convolution's weight does.
///
/// ```no_run
/// use residual_io::weights::{WeightFile, check, spec_from};
/// let weights = WeightFile::open("resnet20.th")?;
/// let spec = spec_from(&weights, Some("resnet20-cifar-Ac"))?;
/// check(&spec, &weights)?;
/// # Ok::<(), residual_io::ImportError>(())
/// ```
///
/// # Errors
/// Neither names a network, a name is not one, or they name different networks. A network is never guessed:
/// the position of strides and of zero channels leaves no trace in the tensors.
pub fn spec_from(file: &WeightFile, arch: Option<&str>) -> Result<ResNet, ImportError> {
    let parse = |name: &str| name.parse::<ResNet>();
    let asked = arch
        .map(|name| parse(name).map_err(|source| ImportError::UnknownArchitecture { name: clean(name), source }))
        .transpose()?;
    let found = file
        .metadata
        .get(keys::ARCHITECTURE)
        .map(|name| parse(name).map_err(|e| file.bad_metadata(keys::ARCHITECTURE, name, format!("names none: {e}"))))
        .transpose()?;
    let spec = match (found, asked) {
        (Some(found), Some(asked)) if found != asked => {
            return Err(ImportError::ArchitectureConflict { file: file.file(), found, asked });
        }
        (Some(spec), _) | (None, Some(spec)) => spec,
        (None, None) => return Err(ImportError::NoArchitecture { file: file.file(), fits: candidates(file) }),
    };
    with_classes(with_channels(spec, file), file)
}

/// `spec` with the input channels of the file's first convolution, unless its name says some (other than the usual 3).
fn with_channels(spec: ResNet, file: &WeightFile) -> ResNet {
    match file.shape("conv1.weight") {
        // A number that no network can have is for `check` to report.
        Some(&[_, channels, ..]) if spec.input().c == 3 => spec.with_channels(channels).unwrap_or(spec),
        _ => spec,
    }
}

/// `spec` with the number of classes of the file's `fc.weight`; without one, `spec` as it is, for [`check`]
/// to report.
///
/// # Errors
/// The metadata states another number, or the number is none a network can have.
pub fn with_classes(spec: ResNet, file: &WeightFile) -> Result<ResNet, ImportError> {
    let Some(classes) = file.classes() else { return Ok(spec) };
    if let Some(stated) = file.metadata.get(keys::CLASSES)
        && stated.parse() != Ok(classes)
    {
        let reason = format!("disagrees with fc.weight, which has {classes} outputs");
        return Err(file.bad_metadata(keys::CLASSES, stated, reason));
    }
    spec.with_classes(classes).map_err(|e| ImportError::Tensor {
        file: file.file(),
        tensor: "fc.weight".into(),
        reason: format!("has {classes} outputs: {e}"),
    })
}

/// The metadata every file of this project begins with; the preprocessing adds its own keys.
pub fn describe(spec: &ResNet, class_names: Option<&[String]>) -> BTreeMap<String, String> {
    let mut map = BTreeMap::from([
        (keys::ARCHITECTURE.into(), spec.to_string()),
        (keys::CLASSES.into(), spec.classes().to_string()),
    ]);
    if let Some(names) = class_names {
        map.insert(keys::CLASS_NAMES.into(), serde_json::json!(names).to_string());
    }
    map
}

/// Networks whose tensors are exactly those of the file. Several may be: without projections a residual and
/// a plain network have the same tensors.
fn candidates(file: &WeightFile) -> Vec<ResNet> {
    const SHORTCUTS: [Shortcut; 5] =
        [Shortcut::B, Shortcut::A(ZeroChannels::After), Shortcut::A(ZeroChannels::Split), Shortcut::C, Shortcut::None];
    let Some(&[width, channels, ..]) = file.shape("conv1.weight") else { return Vec::new() };
    let Some(classes) = file.classes() else { return Vec::new() };
    let per_stage = (0..).take_while(|i| file.shape(&format!("layer1.{i}.conv1.weight")).is_some()).count();
    let cifar = [Block::Basic, Block::Bottleneck(StridePlacement::Conv2)]
        .map(|block| ResNet::cifar(3 * block.convs() * per_stage + 2, block));
    let bases = [18, 34, 50, 101, 152].map(ResNet::imagenet).into_iter().chain(cifar);
    bases
        .flatten()
        .flat_map(|base| SHORTCUTS.map(|shortcut| base.with_shortcut(shortcut)))
        .flat_map(|net| match net.block() {
            Block::Basic => vec![net],
            Block::Bottleneck(_) => vec![net, net.with_stride_placement(StridePlacement::Conv1)],
        })
        .filter_map(|net| net.with_width(width).ok()?.with_channels(channels).ok()?.with_classes(classes).ok())
        .filter(|net| fits(net, file))
        .collect()
}
