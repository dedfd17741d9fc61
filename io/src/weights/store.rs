//! Tensors as they lie in a file, and their conversion to f32 in C order.

use std::{
    collections::{BTreeMap, btree_map},
    ops::Range,
};

use super::{
    error::{Fault, clean},
    place::Place,
    source::Source,
};

/// Element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dtype {
    F32,
    F16,
    Bf16,
    F64,
    /// Not a float: its name and bytes per element.
    Other(&'static str, usize),
}

impl Dtype {
    pub fn size(self) -> usize {
        match self {
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::F32 => 4,
            Dtype::F64 => 8,
            Dtype::Other(_, size) => size,
        }
    }
}

/// A strided view of a storage; lengths, offsets and strides count elements.
pub(super) struct View<'v> {
    pub dtype: Dtype,
    /// bytes of the file that are the storage
    pub storage: Range<usize>,
    pub offset: usize,
    pub shape: &'v [usize],
    /// `None`: C order
    pub strides: Option<&'v [usize]>,
    /// whether every element of the storage is known to be finite
    pub finite: bool,
}

/// Highest rank of a tensor; convolutions have 4.
pub(super) const MAX_RANK: usize = 8;

/// Gathers the tensors of a file under their torchvision names.
pub(super) struct Collector<'b> {
    source: &'b Source,
    /// bytes that conversions may still take
    budget: usize,
    tensors: BTreeMap<String, Place>,
    /// whether [`Collector::finish`] leaves the names alone
    keep_names: bool,
}

impl<'b> Collector<'b> {
    pub fn new(source: &'b Source) -> Self {
        // Half precision doubles; the rest is room for tensors that share a storage. An expanded
        // (stride 0) tensor could ask for any amount.
        let budget = source.len().saturating_mul(4).saturating_add(1 << 16);
        Collector { source, budget, tensors: BTreeMap::new(), keep_names: false }
    }

    /// This project wrote the file: its names are as they should be.
    pub fn keep_names(&mut self) {
        self.keep_names = true;
    }

    /// Adds the tensor that the file calls `name`. Counters are left out, of batches and of whatever else is one
    /// integer: no network reads them.
    pub fn add(&mut self, name: &str, view: &View<'_>) -> Result<(), Fault> {
        let key = canonical(name);
        if key.ends_with("num_batches_tracked") || (matches!(view.dtype, Dtype::Other(..)) && view.shape.is_empty()) {
            return Ok(());
        }
        if let Dtype::Other(dtype, _) = view.dtype {
            return Err(Fault::tensor(name, format!("has element type {dtype}, not a float of 16, 32 or 64 bits")));
        }
        let slot = match self.tensors.entry(key) {
            btree_map::Entry::Vacant(slot) => slot,
            btree_map::Entry::Occupied(other) => {
                return Err(Fault::tensor(name, format!("is there twice (as {})", clean(other.key()))));
            }
        };
        let fault = |reason| Fault::tensor(name, reason);
        let place = Place::new(view, self.source.len()).map_err(fault)?;
        if !place.is_plain() {
            let left = self.budget.checked_sub(place.bytes()).ok_or_else(|| {
                let (shape, len) = (view.shape, self.source.len());
                fault(format!(
                    "of shape {shape:?} would make the tensors take over 4 times the {len} bytes of the file"
                ))
            })?;
            self.budget = left;
        }
        // Only of these may one have no value in f32: better said before anything is done with the others.
        if view.dtype == Dtype::F64 {
            place.read(self.source, &mut vec![0.0; place.len()]).map_err(fault)?;
        }
        slot.insert(place);
        Ok(())
    }

    /// All tensors. Where a network lies below a prefix (`model.conv1.weight`), as frameworks around PyTorch save it,
    /// the prefix is dropped and what lies beside the network is left out; `notes` then says so.
    pub fn finish(self, notes: &mut Vec<String>) -> Result<BTreeMap<String, Place>, Fault> {
        let Some(prefix) = self.prefix()? else { return Ok(self.tensors) };
        let mut inside = BTreeMap::new();
        let mut beside = Vec::new();
        for (name, place) in self.tensors {
            // Some frameworks keep the classifier apart from the backbone.
            let head = || name.strip_prefix("head.").filter(|rest| rest.starts_with("fc."));
            match name.strip_prefix(&prefix).or_else(head) {
                None => beside.push(name),
                Some(plain) => {
                    if inside.insert(canonical(plain), place).is_some() {
                        return Err(Fault::tensor(&name, "is there twice"));
                    }
                }
            }
        }
        notes.push(format!("dropped the prefix `{}`", clean(&prefix)));
        if let Some(first) = beside.first() {
            notes.push(format!("left out {} tensors beside the network, such as `{}`", beside.len(), clean(first)));
        }
        Ok(inside)
    }

    /// The prefix of the only network, if it has one. Every network has the second of these tensors, too; no block
    /// inside it has.
    fn prefix(&self) -> Result<Option<String>, Fault> {
        if self.keep_names || self.tensors.contains_key("conv1.weight") {
            return Ok(None);
        }
        let mut found = self.tensors.keys().filter_map(|name| {
            let prefix = name.strip_suffix("conv1.weight").filter(|prefix| prefix.ends_with('.'))?;
            self.tensors.contains_key(&format!("{prefix}layer1.0.conv1.weight")).then_some(prefix)
        });
        match (found.next(), found.next()) {
            (Some(first), Some(second)) => Err(Fault::format(format!(
                "it holds the networks `{}` and `{}`, and nothing says which is meant; save only one of them",
                clean(first),
                clean(second)
            ))),
            (first, _) => Ok(first.map(str::to_owned)),
        }
    }
}

/// The torchvision name: wrappers' prefixes dropped, `linear` and `shortcut` called `fc` and `downsample`.
pub(super) fn canonical(name: &str) -> String {
    let mut name = name;
    while let Some(rest) = name.strip_prefix("module.").or_else(|| name.strip_prefix("_orig_mod.")) {
        name = rest;
    }
    match name.strip_prefix("linear.") {
        Some(rest) => format!("fc.{rest}"),
        None => name.replacen(".shortcut.", ".downsample.", 1),
    }
}
