//! The calls a pickle makes: the constructors that rebuild tensors; all others are stepped over.

use super::{
    machine::Machine,
    pickle::{Global, Node, Ref, Storage, items, node},
};
use crate::weights::error::Fault;

/// Bytes of a storage's key, which is a decimal number.
const MAX_KEY: usize = 64;

impl<'p> Machine<'p> {
    /// Calls to the known constructors; tensors keep their arguments until someone wants them.
    pub(super) fn reduce(&mut self) -> Result<(), Fault> {
        let (args, callee) = (self.pop()?, self.pop()?);
        let Node::Tuple(list) = node(&self.nodes, args) else {
            return Err(Fault::format("the arguments of a call are not a tuple"));
        };
        let result = match (node(&self.nodes, callee), &**list) {
            (Node::Global(Global::OrderedDict), []) => Node::Dict(Vec::new()),
            (Node::Global(Global::OrderedDict), &[pairs]) => Node::Dict(self.pairs(pairs)?),
            // A size is its tuple: copying would let a short file ask for many long ones.
            (Node::Global(Global::Size), &[sizes]) => {
                self.stack.push(sizes);
                return Ok(());
            }
            (Node::Global(Global::RebuildTensor), _) => Node::Tensor(args),
            (Node::Global(Global::RebuildParameter), &[tensor, ..]) => match node(&self.nodes, tensor) {
                &Node::Tensor(args) => Node::Tensor(args),
                _ => return Err(Fault::format("a parameter of something that is not a tensor")),
            },
            (&Node::Foreign(module, name), _) => Node::Object(module, name),
            (Node::Global(global), list) => {
                return Err(Fault::format(format!("{global:?} is called with {} arguments", list.len())));
            }
            _ => return Err(Fault::format("its pickle calls something that is not a function")),
        };
        self.push(result)
    }

    /// `OrderedDict` carries attributes such as `_metadata`; they say nothing about weights.
    pub(super) fn build(&mut self) -> Result<(), Fault> {
        self.pop()?;
        let object = self.top()?;
        match node(&self.nodes, object) {
            Node::Dict(_) | Node::Object(..) => Ok(()),
            _ => Err(Fault::format("its pickle sets the state of something that is not a dict")),
        }
    }

    /// Python 2 pickles an `OrderedDict` as a list of pairs.
    fn pairs(&mut self, at: Ref) -> Result<Vec<(Ref, Ref)>, Fault> {
        let pairs = items(&self.nodes, at).unwrap_or_default();
        // The same list may be named many times, but is written once for each dict.
        self.copies =
            self.copies.checked_sub(pairs.len()).ok_or_else(|| Fault::format("its pickle copies too much"))?;
        pairs
            .iter()
            .map(|&pair| match items(&self.nodes, pair) {
                Some(&[key, value]) => Ok((key, value)),
                _ => Err(Fault::format("OrderedDict of something that is not pairs")),
            })
            .collect()
    }

    /// `("storage", type, key, location, elements[, view])`, `view` being `None` or `(key, offset, elements)`.
    pub(super) fn storage(&self, id: Ref) -> Result<Storage<'p>, Fault> {
        let is = |at: Ref| node(&self.nodes, at);
        let elements = |at: Ref, what| match is(at) {
            &Node::Int(n) => usize::try_from(n).map_err(|_| Fault::format(format!("a storage's {what} is {n}"))),
            _ => Err(Fault::format(format!("a storage's {what} is not an integer"))),
        };
        let (tag, class, key, count, view) = match items(&self.nodes, id) {
            Some(&[tag, class, key, _, count]) => (tag, class, key, count, None),
            Some(&[tag, class, key, _, count, view]) => (tag, class, key, count, Some(view)),
            _ => return Err(Fault::format("a persistent id has not 5 or 6 parts")),
        };
        match (is(tag), is(class), is(key)) {
            (Node::Str("storage"), &Node::Global(Global::Storage(dtype)), &Node::Str(key)) if key.len() <= MAX_KEY => {
                let (mut len, mut skip) = (elements(count, "length")?, 0);
                if let Some(view) = view.filter(|&view| !matches!(is(view), Node::None)) {
                    let Some(&[_, offset, used]) = items(&self.nodes, view) else {
                        return Err(Fault::format("a storage's view has not 3 parts"));
                    };
                    skip = elements(offset, "view offset")?;
                    let used = elements(used, "view length")?;
                    let end = skip.checked_add(used).filter(|&end| end <= len);
                    len = end.ok_or_else(|| {
                        Fault::format(format!("a view of {used} elements at {skip} exceeds its storage of {len}"))
                    })?;
                }
                Ok(Storage { key, dtype, len, skip })
            }
            _ => Err(Fault::format("a persistent id names no storage")),
        }
    }
}
