//! When values live, and which take the place of another.

use alloc::vec::Vec;
use core::ops::Range;

use super::{Life, TOO_LARGE, WORD, arena::ALIGN, fits, passes::Pass};
use crate::{Error, graph::Graph};

/// Of every value but the input, by the op that writes it.
pub(super) struct Lifetimes {
    /// when it is written first and read last, and its length in words; a value in another's place has length zero
    pub lives: Vec<Life>,
    /// the value whose place it takes: its own, or that of a shortcut that nobody else reads any more
    pub homes: Vec<usize>,
    /// images it holds: a part of the batch where one pass writes and reads it
    pub images: Vec<usize>,
}

impl Lifetimes {
    /// # Errors
    /// [`Error::InvalidNetwork`] for a batch whose activations cannot be counted.
    pub(super) fn new(graph: &Graph, batch: usize, passes: &[Pass]) -> Result<Self, Error> {
        let (mut lives, is_output) = reads(graph);
        let last_reads: Vec<usize> = lives.iter().map(|life| life.steps.end - 1).collect();
        let (mut images, mut all) = (Vec::with_capacity(lives.len()), 0usize);
        let pass_of = |step: usize| passes.iter().find(|pass| pass.steps.contains(&step));
        for (index, life) in lives.iter_mut().enumerate() {
            let Range { start, end } = life.steps;
            let held = match (pass_of(start), pass_of(end - 1)) {
                (Some(writer), Some(reader)) if writer != reader || is_output[index] => {
                    // The steps of a pass run again and again: what enters or leaves it lives all that time.
                    life.steps = writer.steps.start..reader.steps.end;
                    batch
                }
                (Some(pass), _) => pass.images,
                _ => batch,
            };
            life.len = life.len.saturating_mul(held).div_ceil(WORD);
            // However they are placed, the arena is not longer than all of them with their alignment.
            all = all.saturating_add(life.len).saturating_add(ALIGN);
            if !fits(all) {
                return Err(Error::InvalidNetwork { reason: TOO_LARGE });
            }
            images.push(held);
        }
        let homes = share(graph, &mut lives, &images, |value, step| !is_output[value] && last_reads[value] == step);
        Ok(Lifetimes { lives, homes, images })
    }
}

/// The steps from a value's write to its last read, with the bytes of one image; and which values are outputs, which
/// are read when all steps are done.
fn reads(graph: &Graph) -> (Vec<Life>, Vec<bool>) {
    let mut lives: Vec<Life> = Vec::with_capacity(graph.ops().len());
    for (step, op) in graph.ops().iter().enumerate() {
        for read in [Some(op.input), op.shortcut()].into_iter().flatten() {
            if let Some(life) = read.writer().and_then(|writer| lives.get_mut(writer)) {
                life.steps.end = step + 1;
            }
        }
        lives.push(Life { len: graph.values()[op.output.index()].bytes(), steps: step..step + 1 });
    }
    let mut is_output = alloc::vec![false; lives.len()];
    for writer in graph.outputs().iter().filter_map(|output| output.writer()) {
        (is_output[writer], lives[writer].steps.end) = (true, graph.ops().len());
    }
    (lives, is_output)
}

/// Lets sums lie where their shortcuts lay, if these are read for the last time.
fn share(graph: &Graph, lives: &mut [Life], images: &[usize], is_free: impl Fn(usize, usize) -> bool) -> Vec<usize> {
    let mut homes: Vec<usize> = (0..lives.len()).collect();
    for (step, op) in graph.ops().iter().enumerate() {
        let Some(shortcut) = op.shortcut().filter(|&s| s != op.input).and_then(|s| s.writer()) else { continue };
        let home = homes[shortcut];
        if is_free(shortcut, step) && images[home] == images[step] && lives[home].len == lives[step].len {
            let (old, new) = (lives[home].steps.clone(), lives[step].steps.clone());
            homes[step] = home;
            lives[home].steps = old.start.min(new.start)..old.end.max(new.end);
            lives[step].len = 0;
        }
    }
    homes
}
