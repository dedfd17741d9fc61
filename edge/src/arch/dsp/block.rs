//! Two channels by four pixels at a time, over weights that are widened already.

use core::{arch::naked_asm, marker::PhantomData, mem::offset_of};

use crate::arch::winograd::{Rescale, Sum};

/// What [`block`] reads besides its operands; it loads the first three words in order.
#[repr(C)]
struct Task {
    /// bytes of `x`
    extent: usize,
    /// bytes of code before the end of the loop at which it is entered
    skip: usize,
    /// where the first pixel's first byte is stored; NULL: nowhere
    y: *mut i8,
    /// from pixel to pixel
    stride: usize,
    /// tables of the addition, or NULL
    conv_table: *const i32,
    shortcut_table: *const i32,
    /// how the sums of an addition are rescaled, for either channel: what stands behind the weights of others
    add: [[i32; 3]; 2],
    sums: [i32; 8],
}

/// One pair of both channels, four pixels: 11 instructions for 16 products.
macro_rules! pair {
    () => {
        "ldrd r12, lr, [r0], #8
         ldrd r2, r3, [r1], #8
         smlad r4, r12, r2, r4
         smlad r5, r12, r3, r5
         smlad r8, lr, r2, r8
         smlad r9, lr, r3, r9
         ldrd r2, r3, [r1], #8
         smlad r6, r12, r2, r6
         smlad r7, r12, r3, r7
         smlad r10, lr, r2, r10
         smlad r11, lr, r3, r11
"
    };
}

const PAIR_CODE: usize = 44;

/// Rescales `$y` with the factor r2, the offset r3 and the shift r12; lr is scratch.
macro_rules! rescale {
    ($y:literal) => {
        concat!(
            "smmulr lr, ",
            $y,
            ", r2\n",
            "smmlar ",
            $y,
            ", ",
            $y,
            ", r2, r3\n",
            "add ",
            $y,
            ", ",
            $y,
            ", lr, asr #31\n",
            "asr ",
            $y,
            ", ",
            $y,
            ", r12\n"
        )
    };
}

/// The table at lr for a value.
macro_rules! look_up {
    ($y:literal) => {
        concat!("usat ", $y, ", #8, ", $y, "\nldr ", $y, ", [lr, ", $y, ", lsl #2]\n")
    };
}

/// Adds the terms of a pixel's shortcut, bytes at r1, from the table at r3; the next pixel lies r12 further.
macro_rules! shortcut {
    ($a:literal, $b:literal) => {
        concat!(
            "ldrb lr, [r1]\nldr lr, [r3, lr, lsl #2]\nadd ",
            $a,
            ", ",
            $a,
            ", lr\n",
            "ldrb lr, [r1, #1]\nldr lr, [r3, lr, lsl #2]\nadd ",
            $b,
            ", ",
            $b,
            ", lr\nadd r1, r1, r12\n",
        )
    };
}

/// Stores a pixel of both channels at r1; the next lies r12 further.
macro_rules! store {
    ($a:literal, $b:literal) => {
        concat!(
            "ssat ",
            $a,
            ", #8, ",
            $a,
            "\nssat ",
            $b,
            ", #8, ",
            $b,
            "\nstrb ",
            $a,
            ", [r1]\nstrb ",
            $b,
            ", [r1, #1]\nadd r1, r1, r12\n",
        )
    };
}

/// Computes `count` times two channels of four pixels and stores their bytes at `y`, added to what is there if there are
/// tables; without a `y`, their sums in the task.
///
/// For every two channels `weights` holds their biases and their weights, all of them doubled, and factor, offset and shift
/// of either.
///
/// # Safety
/// `task` is `Block::new`'s for `n > 0` pairs; `x` is readable for `4 n` words, `weights` for `2 n + 8` words each of
/// `count > 0` times. `y` is NULL, or writable for `2 count` bytes at multiples of the stride up to 3; both tables are
/// NULL or hold 256 words, and then `y` is readable too.
#[unsafe(naked)]
unsafe extern "C" fn block(weights: *const u32, x: *const u32, task: &mut Task, count: usize) {
    naked_asm!(
        cpu!(),
        // [sp] x, [sp + 4] task, [sp + 8] end of x, [sp + 12] entry, [sp + 16] y, [sp + 20] count,
        // [sp + 24] weights during an addition
        "push {{r4-r11, lr}}
         mov r7, r3
         ldm r2, {{r4-r6}}
         adds r3, r1, r4
         adr.w r4, 4f
         subs r4, r4, r5
         orr r4, r4, #1
         mov r5, r6
         mov r6, r7
         push {{r1-r7}}
         2:
         ldr r2, [sp, #12]
         ldm r0!, {{r4, r8}}
         mov r5, r4
         mov r6, r4
         mov r7, r4
         mov r9, r8
         mov r10, r8
         mov r11, r8
         bx r2
         .p2align 2
         3:",
        pair!(),
        pair!(),
        pair!(),
        pair!(),
        pair!(),
        pair!(),
        pair!(),
        pair!(),
        "4:
         ldr r2, [sp, #8]
         cmp r1, r2
         bne.w 3b
         ldr r1, [sp, #16]
         cbnz r1, 6f
         ldr r2, [sp, #4]
         asrs r4, r4, #1
         asrs r5, r5, #1
         asrs r6, r6, #1
         asrs r7, r7, #1
         asr r8, r8, #1
         asr r9, r9, #1
         asr r10, r10, #1
         asr r11, r11, #1
         adds r2, #{sums}
         stm r2, {{r4-r11}}
         b 9f
         6:
         ldm r0!, {{r2, r3, r12}}",
        rescale!("r4"),
        rescale!("r5"),
        rescale!("r6"),
        rescale!("r7"),
        "ldm r0!, {{r2, r3, r12}}",
        rescale!("r8"),
        rescale!("r9"),
        rescale!("r10"),
        rescale!("r11"),
        "ldr r2, [sp, #4]
         ldrd r12, lr, [r2, #{stride}]
         cmp lr, #0
         beq 8f
         add r3, r2, #{add_end}
         cmp r0, r3
         beq 7f
         str r0, [sp, #24]
         add r0, r2, #{add}
         ldr r3, [r2, #{shortcut}]",
        look_up!("r4"),
        look_up!("r5"),
        look_up!("r6"),
        look_up!("r7"),
        look_up!("r8"),
        look_up!("r9"),
        look_up!("r10"),
        look_up!("r11"),
        shortcut!("r4", "r8"),
        shortcut!("r5", "r9"),
        shortcut!("r6", "r10"),
        shortcut!("r7", "r11"),
        "ldr r1, [sp, #16]
         b 6b
         7:
         ldr r0, [sp, #24]
         8:",
        store!("r4", "r8"),
        store!("r5", "r9"),
        store!("r6", "r10"),
        store!("r7", "r11"),
        "ldrd r2, r3, [sp, #16]
         adds r2, #2
         subs r3, #1
         strd r2, r3, [sp, #16]
         ldr r1, [sp]
         bne.w 2b
         9:
         add sp, #28
         pop {{r4-r11, pc}}",
        sums = const offset_of!(Task, sums),
        stride = const offset_of!(Task, stride),
        shortcut = const offset_of!(Task, shortcut_table),
        add = const offset_of!(Task, add),
        add_end = const offset_of!(Task, sums),
    )
}

/// Two channels by four pixels, and how they become bytes.
pub struct Block<'t> {
    task: Task,
    pairs: usize,
    tables: PhantomData<&'t [i32]>,
}

impl<'t> Block<'t> {
    /// For `pairs` pairs of inputs and pixels `stride` bytes apart. With a `sum`, every rescaling must be offset by 128
    /// ([`Sum`]).
    pub fn new(sum: Option<Sum<'t>>, pairs: usize, stride: usize) -> Self {
        let null = core::ptr::null();
        let (conv_table, shortcut_table) = sum.map_or((null, null), |s| (s.conv.as_ptr(), s.shortcut.as_ptr()));
        let add = sum.map_or([0; 3], |s| words(s.rescale));
        let task = Task {
            extent: 16 * pairs,
            skip: pairs % 8 * PAIR_CODE,
            y: core::ptr::null_mut(),
            stride,
            conv_table,
            shortcut_table,
            add: [add; 2],
            sums: [0; 8],
        };
        Block { task, pairs, tables: PhantomData }
    }

    /// Whether operands have their lengths, and for how many times two channels there are weights.
    fn count(&self, weights: &[u32], x: &[u32]) -> usize {
        let each = block_words(self.pairs);
        if self.pairs > 0 && x.len() >= 4 * self.pairs {
            weights.len().checked_div(each).unwrap_or_default()
        } else {
            0
        }
    }

    /// The sums of two channels of four pixels.
    pub fn sums(&mut self, weights: &[u32], x: &[u32]) -> &[i32; 8] {
        self.task.y = core::ptr::null_mut();
        if self.count(weights, x) > 0 {
            // SAFETY: `x` holds the pairs of four pixels, `weights` those of two channels; `y` is NULL.
            unsafe { block(weights.as_ptr(), x.as_ptr(), &mut self.task, 1) };
        }
        &self.task.sums
    }

    /// Computes all channels of `weights` and stores them side by side at multiples of the stride in `y`; with a sum, the
    /// bytes there are the shortcut. `false` if one lies outside.
    pub fn store(&mut self, weights: &[u32], x: &[u32], y: &mut [i8]) -> bool {
        let count = self.count(weights, x);
        let fits = count > 0 && y.len() >= self.task.stride.saturating_mul(3).saturating_add(2 * count);
        if fits {
            self.task.y = y.as_mut_ptr();
            // SAFETY: `x` holds the pairs of four pixels, `weights` those of `2 count` channels; the last output, at
            // `3 stride + 2 count - 1`, is inside `y`; the tables, if any, are arrays of 256.
            unsafe { block(weights.as_ptr(), x.as_ptr(), &mut self.task, count) };
        }
        fits
    }
}

/// Words of two channels' weights in pairs, their biases and rescalings.
pub const fn block_words(pairs: usize) -> usize {
    2 * pairs + 8
}

fn words(rescale: Rescale) -> [i32; 3] {
    [rescale.mult, rescale.half, rescale.shift as i32]
}

/// A word of a channel's weights in two pairs, doubled.
macro_rules! word {
    () => {
        "ldr r3, [r0], #4
         sxtb16 r12, r3
         sxtb16 r3, r3, ror #8
         sadd16 r12, r12, r12
         sadd16 r3, r3, r3
         str r12, [r2]
         str r3, [r2, #8]
         adds r2, #16
"
    };
}

/// Widens and doubles the weights of one of two channels.
///
/// # Safety
/// `weights` is readable for `words > 0` words, `to` writable for four times as many less one.
#[unsafe(naked)]
unsafe extern "C" fn widen(weights: *const i8, words: usize, to: *mut u32) {
    naked_asm!(
        cpu!(),
        "lsrs r1, r1, #1
         bcs 3f
         subs r1, #1
         2:",
        word!(),
        "3:",
        word!(),
        "subs r1, #1
         bhs 2b
         bx lr",
    )
}

/// Writes the weights of channel `j` of two to `block`, and around them its bias and rescaling. `None` if `weights` do not
/// fill the block, but for the last bytes of a word.
pub fn pack(block: &mut [u32], j: usize, weights: &[i8], bias: i32, rescale: Rescale) -> Option<()> {
    let rescalings = block.last_chunk_mut::<6>()?.as_chunks_mut::<3>().0;
    *rescalings.get_mut(j)? = words(rescale).map(|word| word as u32);
    *block.get_mut(j)? = (bias as u32) << 1;
    let words = weights.len() / 4;
    if words == 0 || j > 1 || block.len() != block_words(2 * words) {
        return None;
    }
    // SAFETY: `weights` holds `words` words; from word `2 + j` on, `block` has room for four times as many less one.
    unsafe { widen(weights.as_ptr(), words, block.as_mut_ptr().add(2 + j)) };
    Some(())
}
