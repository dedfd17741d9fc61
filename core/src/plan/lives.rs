//! When values live, and which take the place of another.

use alloc::vec::Vec;
use core::ops::Range;

use super::{Life, MAX_LEN, TOO_LARGE, arena::ALIGN, passes::Pass};
use crate::{Error, net::Net};

/// When every value but the input is written first and read last, and its length: a part of the batch
/// where one pass writes and reads it. With each the value whose place it takes: its own, or that of a
/// shortcut that nobody else reads any more. A value in another's place has a life of length zero.
pub(super) fn lives(net: &Net<'_>, batch: usize, passes: &[Pass]) -> Result<(Vec<Life>, Vec<usize>), Error> {
    let pass_of = |step: usize| passes.iter().find(|pass| pass.steps.contains(&step));
    let mut lives: Vec<Life> = Vec::with_capacity(net.values().len());
    for (step, op) in net.ops().iter().enumerate() {
        for read in [Some(op.input), op.shortcut()].into_iter().flatten() {
            if let Some(life) = read.index().checked_sub(1).and_then(|i| lives.get_mut(i)) {
                life.steps.end = step + 1;
            }
        }
        lives.push(Life { len: op.output_shape().elements(), steps: step..step + 1 });
    }
    let last_reads: Vec<usize> = lives.iter().map(|life| life.steps.end - 1).collect();
    let mut all = 0usize;
    for life in &mut lives {
        let Range { start, end } = life.steps;
        let images = match (pass_of(start), pass_of(end - 1)) {
            (Some(writer), Some(reader)) if writer != reader || end == net.ops().len() => {
                // The steps of a pass run again and again: what enters or leaves it lives all that time.
                life.steps = writer.steps.start..reader.steps.end;
                batch
            }
            (Some(pass), _) => pass.images,
            _ => batch,
        };
        life.len = life.len.saturating_mul(images);
        // However they are placed, the arena is not longer than all of them with their alignment.
        all = all.saturating_add(life.len).saturating_add(ALIGN);
        if all > MAX_LEN {
            return Err(Error::InvalidNetwork { reason: TOO_LARGE });
        }
    }
    let mut homes: Vec<usize> = (0..lives.len()).collect();
    for (step, op) in net.ops().iter().enumerate() {
        let Some(shortcut) = op.shortcut().filter(|&s| s != op.input).and_then(|s| s.index().checked_sub(1)) else {
            continue;
        };
        let home = homes[shortcut];
        if last_reads[shortcut] == step && lives[home].len == lives[step].len {
            homes[step] = home;
            lives[home].steps.end = lives[home].steps.end.max(lives[step].steps.end);
            lives[step].len = 0;
        }
    }
    Ok((lives, homes))
}
