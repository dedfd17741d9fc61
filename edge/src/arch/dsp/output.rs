//! Winograd's output transform, rescaling and shortcut addition.

use core::arch::naked_asm;

use super::cpu;
use core::marker::PhantomData;

use crate::arch::winograd::{Rescale, Sum};

/// How the tiles of one channel become bytes. [`plain`] and [`with_sum`] read it in this order.
#[repr(C)]
pub struct Finish<'t> {
    mult: i32,
    twice_bias: i32,
    half: i32,
    inverse_of_9: i32,
    shift: u32,
    pixel_stride: usize,
    conv_table: *const i32,
    shortcut_table: *const i32,
    sum_mult: i32,
    sum_half: i32,
    sum_shift: u32,
    pixel_stride_again: usize,
    row_step: usize,
    tables: PhantomData<&'t [i32]>,
}

impl<'t> Finish<'t> {
    /// For a map whose neighbouring pixels and rows lie so many elements apart. With a `sum`, `rescale`
    /// must be offset by 128 ([`Sum::apply`]).
    #[inline(always)]
    pub fn new(bias: i32, rescale: Rescale, sum: Option<Sum<'t>>, pixel_stride: usize, row_stride: usize) -> Self {
        let (conv_table, shortcut_table, last) = match sum {
            Some(sum) => (sum.conv.as_ptr(), sum.shortcut.as_ptr(), sum.rescale),
            None => (core::ptr::null(), core::ptr::null(), rescale),
        };
        Finish {
            mult: rescale.mult,
            twice_bias: bias << 1,
            half: rescale.half,
            inverse_of_9: 0x38e3_8e39,
            shift: rescale.shift,
            pixel_stride,
            conv_table,
            shortcut_table,
            sum_mult: last.mult,
            sum_half: last.half,
            sum_shift: last.shift,
            pixel_stride_again: pixel_stride,
            row_step: row_stride.wrapping_sub(2 * pixel_stride),
            tables: PhantomData,
        }
    }

    /// Transforms the sums `m[position][lane]` of a tile into 16 outputs, the first at `y[start]`; with a
    /// sum, the bytes there are the shortcut. `false` if one lies outside `y`.
    #[inline(always)]
    pub fn store(&self, m: &[[i32; 8]; 36], lane: usize, y: &mut [i8], start: usize) -> bool {
        let row_stride = self.row_step.wrapping_add(2 * self.pixel_stride);
        if lane >= 8 || start + 3 * row_stride + 3 * self.pixel_stride >= y.len() {
            return false;
        }
        // SAFETY: `lane < 8` leaves 35 * 8 words behind the first sum; the last output is inside `y`; the
        // tables, if any, are arrays of 256.
        unsafe {
            let (m, y) = (m.as_ptr().cast::<i32>().add(lane), y.as_mut_ptr().add(start));
            if self.conv_table.is_null() { plain(m, y, self) } else { with_sum(m, y, self) }
        }
        true
    }
}

/// `A^T` of the registers r4 to r9, rows divided by 1, 2, 4, 4, into r11, r4, r6, r7.
macro_rules! at {
    () => {
        "add r10, r5, r6
         sub r5, r5, r6
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

/// Column `$x` of the sums at r0 into column `$x` of the 4x6 matrix at sp.
macro_rules! column {
    ($x:literal) => {
        concat!(
            "ldr r4, [r0, #32*",
            $x,
            "]\n",
            "ldr.w r5, [r0, #192+32*",
            $x,
            "]\n",
            "ldr.w r6, [r0, #384+32*",
            $x,
            "]\n",
            "ldr.w r7, [r0, #576+32*",
            $x,
            "]\n",
            "ldr.w r8, [r0, #768+32*",
            $x,
            "]\n",
            "ldr.w r9, [r0, #960+32*",
            $x,
            "]\n",
            at!(),
            "str r11, [sp, #4*",
            $x,
            "]\n",
            "str r4, [sp, #24+4*",
            $x,
            "]\n",
            "str r6, [sp, #48+4*",
            $x,
            "]\n",
            "str r7, [sp, #72+4*",
            $x,
            "]\n",
        )
    };
}

macro_rules! columns {
    () => {
        concat!(
            // the 13 words of Finish above the matrix's 24
            "push {{r4-r11, lr}}
             sub sp, #152
             add r12, sp, #96
             ldm r2!, {{r3-r11}}
             stm r12!, {{r3-r11}}
             ldm r2, {{r3-r6}}
             stm r12, {{r3-r6}}
",
            column!("0"),
            column!("1"),
            column!("2"),
            column!("3"),
            column!("4"),
            column!("5"),
            "mov r0, sp\n",
        )
    };
}

/// r2 mult, r3 twice the bias, r12 half, lr the inverse of 9, r8 shift, r9 pixel stride.
macro_rules! first_constants {
    () => {
        "ldrd r2, r3, [sp, #96]
         ldrd r12, lr, [sp, #104]
         ldrd r8, r9, [sp, #112]
"
    };
}

/// r2 and r3 tables, r12 mult, lr half, r8 shift, r9 pixel stride.
macro_rules! second_constants {
    () => {
        "ldrd r2, r3, [sp, #120]
         ldrd r12, lr, [sp, #128]
         ldrd r8, r9, [sp, #136]
"
    };
}

/// Rescales `$y`; the value is a sum times 9 and 2 to the `$log + 1`.
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
            "smmulr r5, ",
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
            ", r5, asr #31\n",
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

macro_rules! row {
    ($l0:literal $l1:literal $l2:literal $l3:literal) => {
        concat!(
            "ldm r0!, {{r4-r9}}\n",
            at!(),
            first_constants!(),
            store!("r11", $l0, "[r1]"),
            store!("r4", $l1, "[r1, r9]"),
            store!("r6", $l2, "[r1, r9, lsl #1]"),
            "add r1, r1, r9, lsl #1\n",
            store!("r7", $l3, "[r1, r9]"),
            "ldr r5, [sp, #144]\n",
            "add r1, r1, r5\n",
        )
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

macro_rules! sum_row {
    ($l0:literal $l1:literal $l2:literal $l3:literal) => {
        concat!(
            "ldm r0!, {{r4-r9}}\n",
            at!(),
            first_constants!(),
            value!("r11", $l0),
            value!("r4", $l1),
            value!("r6", $l2),
            value!("r7", $l3),
            second_constants!(),
            sum!("r11", "[r1]"),
            sum!("r4", "[r1, r9]"),
            sum!("r6", "[r1, r9, lsl #1]"),
            "add r1, r1, r9, lsl #1\n",
            sum!("r7", "[r1, r9]"),
            "ldr r5, [sp, #144]\n",
            "add r1, r1, r5\n",
        )
    };
}

/// Transforms the sums at `m` (36 of them, 8 words apart) into 16 bytes at `y`.
///
/// # Safety
/// `m` is readable at multiples of 8 words up to 280; `y` is writable at
/// `row * row_stride + column * pixel_stride` up to 3 and 3.
#[unsafe(naked)]
unsafe extern "C" fn plain(m: *const i32, y: *mut i8, finish: &Finish<'_>) {
    naked_asm!(
        cpu!(),
        columns!(),
        row!("5" "4" "3" "3"),
        row!("4" "3" "2" "2"),
        row!("3" "2" "1" "1"),
        row!("3" "2" "1" "1"),
        "add sp, #152",
        "pop {{r4-r11, pc}}",
    )
}

/// As [`plain`], adding to the shortcut's bytes in `y`.
///
/// # Safety
/// As for [`plain`]; `y` is readable too, and both tables hold 256 words.
#[unsafe(naked)]
unsafe extern "C" fn with_sum(m: *const i32, y: *mut i8, finish: &Finish<'_>) {
    naked_asm!(
        cpu!(),
        columns!(),
        sum_row!("5" "4" "3" "3"),
        sum_row!("4" "3" "2" "2"),
        sum_row!("3" "2" "1" "1"),
        sum_row!("3" "2" "1" "1"),
        "add sp, #152",
        "pop {{r4-r11, pc}}",
    )
}
