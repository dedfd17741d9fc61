//! Winograd's output transform, rescaling and shortcut addition.

use core::{arch::naked_asm, marker::PhantomData};

use crate::arch::winograd::{Rescale, Sum};

/// How the tiles of one channel become bytes. [`tile`] reads it in this order.
#[repr(C)]
pub struct Finish<'t> {
    mult: i32,
    twice_bias: i32,
    shift: u32,
    pixel_stride: usize,
    half: i32,
    conv_table: *const i32,
    shortcut_table: *const i32,
    sum_shift: u32,
    sum_mult: i32,
    sum_half: i32,
    /// from the third pixel of a row to the first of the next
    row_step: usize,
    /// from the first pixel to the last
    last: usize,
    tables: PhantomData<&'t [i32]>,
}

impl<'t> Finish<'t> {
    /// For a map whose neighbouring pixels and rows lie so many elements apart. With a `sum`, rescalings must
    /// be offset by 128 ([`Sum`]).
    pub fn new(sum: Option<Sum<'t>>, pixel_stride: usize, row_stride: usize) -> Self {
        let null = core::ptr::null();
        let (conv_table, shortcut_table) = sum.map_or((null, null), |s| (s.conv.as_ptr(), s.shortcut.as_ptr()));
        let (sum_shift, sum_mult, sum_half) =
            sum.map_or((0, 0, 0), |s| (s.rescale.shift, s.rescale.mult, s.rescale.half));
        Finish {
            mult: 0,
            twice_bias: 0,
            shift: 0,
            pixel_stride,
            half: 0,
            conv_table,
            shortcut_table,
            sum_shift,
            sum_mult,
            sum_half,
            row_step: row_stride.wrapping_sub(2 * pixel_stride),
            last: 3 * row_stride + 3 * pixel_stride,
            tables: PhantomData,
        }
    }

    /// Sets what differs between channels.
    #[inline(always)]
    pub fn set(&mut self, bias: i32, rescale: Rescale) {
        self.twice_bias = bias << 1;
        (self.mult, self.half, self.shift) = (rescale.mult, rescale.half, rescale.shift);
    }

    /// Transforms the sums `m[position][lane]` of a tile into 16 outputs, the first at `y[start]`; with a
    /// sum, the bytes there are the shortcut. A second channel's, if there is one, are 4 lanes and one output
    /// further. `false` if one lies outside `y`.
    #[inline(always)]
    pub fn store(channels: &[Self], m: &[[i32; 8]; 36], lane: usize, y: &mut [i8], start: usize) -> bool {
        let Some(first) = channels.first() else { return true };
        let more = channels.len() - 1;
        let last = start.saturating_add(more).saturating_add(first.last);
        if more > 1 || lane + 4 * more >= 8 || last >= y.len() {
            return false;
        }
        // SAFETY: the lanes leave 35 * 8 words behind their first sums; the last output is inside `y`; the
        // tables, if any, are arrays of 256.
        unsafe {
            tile(m.as_ptr().cast::<i32>().add(lane), y.as_mut_ptr().add(start), channels.as_ptr(), channels.len());
        }
        true
    }
}

/// `A^T` of the registers r4 to r9, rows divided by 1, 2, 4, 4, into r11, r4, r6, r7; r10 is scratch.
macro_rules! at {
    () => {
        "add r10, r5, r6
         subs r5, r5, r6
         add r6, r7, r8
         sub r7, r7, r8
         add r11, r6, r4, lsl #1
         sub r11, r11, r10, lsl #2
         sub r4, r7, r5, lsl #1
         sub r6, r6, r10
         add r7, r7, r9
         rsb r7, r5, r7, lsl #1
"
    };
}

/// The next column of the sums at r0 through `A^T` into that of the matrix at r12.
macro_rules! column {
    () => {
        concat!(
            "ldr r5, [r0, #192]
             ldr r6, [r0, #384]
             ldr r7, [r0, #576]
             ldr r8, [r0, #768]
             ldr r9, [r0, #960]
             ldr r4, [r0], #32
",
            at!(),
            "str r4, [r12, #28]
             str r6, [r12, #56]
             str r7, [r12, #84]
             str r11, [r12], #4
"
        )
    };
}

/// Rescales `$y`; times the row's factor it is a sum times 2 to the `$log + 1`.
macro_rules! rescale {
    ($y:literal, $log:literal) => {
        concat!(
            "mul ",
            $y,
            ", ",
            $y,
            ", lr\n",
            "add ",
            $y,
            ", r3, ",
            $y,
            ", asr #",
            $log,
            "\n",
            "smmulr r10, ",
            $y,
            ", r2\n",
            "smmlar ",
            $y,
            ", ",
            $y,
            ", r2, r12\n",
            "add ",
            $y,
            ", ",
            $y,
            ", r10, asr #31\n",
            "asr ",
            $y,
            ", ",
            $y,
            ", r8\n",
        )
    };
}

macro_rules! store {
    ($y:literal, $log:literal, $at:literal) => {
        concat!(rescale!($y, $log), "ssat ", $y, ", #8, ", $y, "\nstrb ", $y, ", ", $at, "\n")
    };
}

macro_rules! value {
    ($y:literal, $log:literal) => {
        concat!(rescale!($y, $log), "usat ", $y, ", #8, ", $y, "\n")
    };
}

/// Adds the shortcut's byte at `$at` to the value in `$y` and stores the sum there.
macro_rules! sum {
    ($y:literal, $at:literal) => {
        concat!(
            "ldrb r5, ",
            $at,
            "\n",
            "ldr ",
            $y,
            ", [r2, ",
            $y,
            ", lsl #2]\n",
            "ldr r5, [r3, r5, lsl #2]\n",
            "add r5, r5, ",
            $y,
            "\n",
            "smmulr r10, r5, r12\n",
            "smmlar r5, r5, r12, lr\n",
            "add r5, r5, r10, asr #31\n",
            "asr r5, r5, r8\n",
            "ssat r5, #8, r5\n",
            "strb r5, ",
            $at,
            "\n",
        )
    };
}

/// The next row of the matrix and its factor: `A^T`, then r2 mult, r3 twice the bias, r8 shift, r9 pixel
/// stride, r12 half; r5 is the rest of [`Finish`].
macro_rules! row {
    () => {
        concat!("ldm r0!, {{r4-r9, lr}}\n", at!(), "ldr r5, [sp, #120]\nldm r5!, {{r2, r3, r8, r9, r12}}\n")
    };
}

/// The step to the next row, which `$finish` loads; whether it was the last.
macro_rules! next_row {
    ($finish:literal) => {
        concat!(
            $finish,
            "add r1, r1, r5
         add r5, sp, #112
         cmp r0, r5
"
        )
    };
}

const FINISH_BYTES: usize = size_of::<Finish<'_>>();

/// Transforms the sums at `m` (36 of them, 8 words apart) into 16 bytes at `y`; where there are tables,
/// adds to the bytes there. Does the same for more channels, each 4 words and one byte further.
///
/// # Safety
/// `count > 0`, and for each channel, `m` is readable at multiples of 8 words up to 280; `y` is writable from
/// the first to the last of the places its `finish` gives; both tables hold 256 words or are NULL, and `y` is
/// readable too if they are not. All channels agree in their places.
#[unsafe(naked)]
unsafe extern "C" fn tile(m: *const i32, y: *mut i8, finish: *const Finish<'_>, count: usize) {
    naked_asm!(
        cpu!(),
        // [sp] 4 rows of 6 and a factor, [sp + 112] m, [sp + 116] y, [sp + 120] finish, [sp + 124] count
        "push {{r0-r11, lr}}
         sub sp, #112
         movw r3, #0x8e39
         movt r3, #0x38e3
         lsls r4, r3, #1
         lsls r5, r3, #2
         str r3, [sp, #24]
         str r4, [sp, #52]
         str r5, [sp, #80]
         str r5, [sp, #108]
         1:
         mov r12, sp
         add lr, sp, #24
         2:",
        column!(),
        column!(),
        "cmp r12, lr
         bne 2b
         ldr r3, [r2, #20]
         mov r0, sp
         cbz r3, 3f
         b 4f
         3:",
        row!(),
        store!("r11", "5", "[r1]"),
        store!("r4", "4", "[r1, r9]"),
        store!("r6", "3", "[r1, r9, lsl #1]"),
        "add r1, r1, r9, lsl #1\n",
        store!("r7", "3", "[r1, r9]"),
        next_row!("ldr r5, [r5, #20]\n"),
        "bne 3b
         b 5f
         4:",
        row!(),
        value!("r11", "5"),
        value!("r4", "4"),
        value!("r6", "3"),
        value!("r7", "3"),
        "ldm r5, {{r2, r3, r8, r12, lr}}\n",
        sum!("r11", "[r1]"),
        sum!("r4", "[r1, r9]"),
        sum!("r6", "[r1, r9, lsl #1]"),
        "add r1, r1, r9, lsl #1\n",
        sum!("r7", "[r1, r9]"),
        next_row!("ldr r5, [sp, #120]\nldr r5, [r5, #40]\n"),
        "bne 4b
         5:
         ldrd r2, r3, [sp, #120]
         subs r3, #1
         beq 6f
         adds r2, #{finish}
         strd r2, r3, [sp, #120]
         ldrd r0, r1, [sp, #112]
         adds r0, #16
         adds r1, #1
         b 1b
         6:
         add sp, #128
         pop {{r4-r11, pc}}",
        finish = const FINISH_BYTES,
    )
}
