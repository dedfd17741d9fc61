//! What a pickle describes: nodes in one vector, referring to each other by index.
//!
//! No nesting, cycle or sharing in a hostile file can therefore recurse here, not even when it is dropped.

use std::collections::BTreeSet;

use crate::weights::{error::clean, store::Dtype};

/// Index of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ref(pub(super) u32);

/// The Python objects that rebuilding tensors needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Global {
    OrderedDict,
    Size,
    /// `_rebuild_tensor` and `_rebuild_tensor_v2`: `(storage, offset, size, stride, ...)`
    RebuildTensor,
    /// `_rebuild_parameter` and `_rebuild_parameter_with_state`: `(tensor, requires_grad, hooks, ...)`
    RebuildParameter,
    Storage(Dtype),
}

#[derive(Debug)]
pub enum Node<'p> {
    None,
    Bool(bool),
    Int(i64),
    /// little-endian two's complement of more than 8 bytes
    Long(&'p [u8]),
    Float,
    Str(&'p str),
    Bytes,
    Tuple(Box<[Ref]>),
    List(Vec<Ref>),
    Dict(Vec<(Ref, Ref)>),
    Global(Global),
    /// a class or function that rebuilding tensors does not need, by module and name; it is never looked up
    Foreign(&'p str, &'p str),
    /// what such a class or function would make: it is stepped over
    Object(&'p str, &'p str),
    /// index into [`Pickle::storages`]
    Storage(u32),
    /// the arguments of its `_rebuild_tensor*`
    Tensor(Ref),
}

/// What a persistent id says about a storage.
#[derive(Clone, Copy, Debug)]
pub struct Storage<'p> {
    pub key: &'p str,
    pub dtype: Dtype,
    /// elements of the storage
    pub len: usize,
    /// elements of the storage before the ones that are used (views of legacy files)
    pub skip: usize,
}

/// A parsed pickle.
#[derive(Debug)]
pub struct Pickle<'p> {
    pub(super) nodes: Vec<Node<'p>>,
    pub storages: Vec<Storage<'p>>,
    pub root: Ref,
    /// bytes it takes
    pub len: usize,
}

impl<'p> Pickle<'p> {
    pub fn get(&self, at: Ref) -> &Node<'p> {
        node(&self.nodes, at)
    }

    /// The entries of a dict whose keys are strings.
    pub fn entries(&self, at: Ref) -> Option<impl Iterator<Item = (&'p str, Ref)>> {
        let Node::Dict(pairs) = self.get(at) else { return None };
        Some(pairs.iter().filter_map(|&(key, value)| match self.get(key) {
            Node::Str(key) => Some((*key, value)),
            _ => None,
        }))
    }

    /// Names of the foreign classes and functions, sorted.
    pub fn foreign(&self) -> Vec<String> {
        let names = self.nodes.iter().filter_map(|node| match node {
            Node::Foreign(module, name) => Some((module, name)),
            _ => None,
        });
        let names: BTreeSet<_> = names.collect();
        names.into_iter().map(|(module, name)| clean(&format!("{module}.{name}"))).collect()
    }

    /// The items of a tuple or list.
    pub fn items(&self, at: Ref) -> Option<&[Ref]> {
        items(&self.nodes, at)
    }
}

pub(super) fn node<'n, 'p>(nodes: &'n [Node<'p>], at: Ref) -> &'n Node<'p> {
    nodes.get(at.0 as usize).unwrap_or(&Node::None)
}

pub(super) fn items<'n>(nodes: &'n [Node<'_>], at: Ref) -> Option<&'n [Ref]> {
    match node(nodes, at) {
        Node::Tuple(items) => Some(items),
        Node::List(items) => Some(items),
        _ => None,
    }
}

/// The object called `module.name`, if it is one of those.
pub(super) fn global(module: &str, name: &str) -> Option<Global> {
    let storage = |name: &str| {
        Some(match name {
            "FloatStorage" => Dtype::F32,
            "HalfStorage" => Dtype::F16,
            "BFloat16Storage" => Dtype::Bf16,
            "DoubleStorage" => Dtype::F64,
            "LongStorage" => Dtype::Other("int64", 8),
            "IntStorage" => Dtype::Other("int32", 4),
            "ShortStorage" => Dtype::Other("int16", 2),
            "CharStorage" => Dtype::Other("int8", 1),
            "ByteStorage" => Dtype::Other("uint8", 1),
            "BoolStorage" => Dtype::Other("bool", 1),
            "ComplexFloatStorage" => Dtype::Other("complex64", 8),
            "ComplexDoubleStorage" => Dtype::Other("complex128", 16),
            "QInt8Storage" => Dtype::Other("qint8", 1),
            "QUInt8Storage" => Dtype::Other("quint8", 1),
            "QInt32Storage" => Dtype::Other("qint32", 4),
            "UntypedStorage" => Dtype::Other("bytes", 1),
            _ => return None,
        })
    };
    match (module, name) {
        ("collections", "OrderedDict") => Some(Global::OrderedDict),
        ("torch", "Size") => Some(Global::Size),
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Global::RebuildTensor),
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Some(Global::RebuildParameter),
        ("torch" | "torch.cuda", name) => storage(name).map(Global::Storage),
        ("torch.storage", "UntypedStorage") => storage(name).map(Global::Storage),
        _ => None,
    }
}
