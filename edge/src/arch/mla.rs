//! MLA kernels for Cortex-M3 and other cores of ARMv7-M or ARMv8-M without DSP extension: halves are loaded
//! with their signs, so that nothing but products and loads remains. Contracts as in `portable`.

use core::arch::naked_asm;

/// Four tiles of two channels: the weights at `$u` and `$u + 4` times the inputs at `$v`, `$v + 4` and so on.
macro_rules! products {
    ($u:literal, $v:literal) => {
        concat!(
            "ldrsh r2, [r0, #",
            $u,
            "]\nldrsh r3, [r0, #",
            $u,
            "+4]\n",
            "ldrsh r12, [r1, #",
            $v,
            "]\nmla r4, r2, r12, r4\nmla r8, r3, r12, r8\n",
            "ldrsh r12, [r1, #",
            $v,
            "+4]\nmla r5, r2, r12, r5\nmla r9, r3, r12, r9\n",
            "ldrsh r12, [r1, #",
            $v,
            "+8]\nmla r6, r2, r12, r6\nmla r10, r3, r12, r10\n",
            "ldrsh r12, [r1, #",
            $v,
            "+12]\nmla r7, r2, r12, r7\nmla r11, r3, r12, r11\n",
        )
    };
}

/// Two channels, four tiles, 36 positions; 32 instructions for 16 products.
///
/// # Safety
/// `u` is readable for `72 pairs` words, `v` for `144 pairs`, `sums` is writable for 288 words; `pairs > 0`.
#[unsafe(naked)]
unsafe extern "C" fn products_2x4(u: *const u32, v: *const u32, sums: *mut i32, pairs: usize) {
    naked_asm!(
        // [sp] u, v, sums of the next position, pairs, end of the sums
        "push {{r4-r11, lr}}
         add r4, r2, #1152
         push {{r0-r4}}
         2:
         ldm sp, {{r0-r2, lr}}
         movs r4, #0
         movs r5, #0
         movs r6, #0
         movs r7, #0
         mov r8, r4
         mov r9, r4
         mov r10, r4
         mov r11, r4
         3:",
        products!("0", "0"),
        products!("2", "2"),
        "add r0, r0, #288
         add r1, r1, #576
         subs lr, lr, #1
         bne 3b
         ldm sp, {{r0-r2}}
         stm r2!, {{r4-r11}}
         adds r0, #8
         adds r1, #16
         stm sp, {{r0-r2}}
         ldr r3, [sp, #16]
         cmp r2, r3
         bne 2b
         add sp, #20
         pop {{r4-r11, pc}}",
    )
}

/// The products of Winograd's domain: `m[position][channel][tile] = sum_pairs u * v`.
///
/// `u` is `[pair][36][2 channels]`, `v` is `[pair][36][4 tiles]`; sums are modulo 2^32.
pub fn products(u: &[u32], v: &[u32], m: &mut [[i32; 8]; 36]) {
    let pairs = (u.len() / 72).min(v.len() / 144);
    if pairs > 0 {
        // SAFETY: `u` holds `72 pairs` words and `v` holds `144 pairs`, `m` 288.
        unsafe { products_2x4(u.as_ptr(), v.as_ptr(), m.as_mut_ptr().cast(), pairs) };
    }
}

/// Adds the products of both channels and four pixels; 32 instructions for 16 of them.
///
/// # Safety
/// `weights` is readable for `2 pairs` words, `x` for `4 pairs`, `sums` is valid for 8 words; `pairs > 0`.
#[unsafe(naked)]
unsafe extern "C" fn add_2x4(weights: *const u32, x: *const u32, sums: *mut i32, pairs: usize) {
    naked_asm!(
        "push {{r2, r4-r11, lr}}
         mov lr, r3
         ldm r2, {{r4-r11}}
         2:",
        products!("0", "0"),
        products!("2", "2"),
        "adds r0, #8
         adds r1, #16
         subs lr, lr, #1
         bne 2b
         pop {{r2}}
         stm r2, {{r4-r11}}
         pop {{r4-r11, pc}}",
    )
}

/// Adds the products of both channels and four pixels, `weights[pair][2]` and `x[pair][4]`, to `sums[channel][pixel]`.
pub fn add_products(weights: &[u32], x: &[u32], sums: &mut [[i32; 4]; 2]) {
    let pairs = (weights.len() / 2).min(x.len() / 4);
    if pairs > 0 {
        // SAFETY: `weights` holds `2 pairs` words and `x` holds `4 pairs`; `sums` has 8.
        unsafe { add_2x4(weights.as_ptr(), x.as_ptr(), sums.as_mut_ptr().cast(), pairs) };
    }
}

/// The weight at `$w` times the inputs of eight pixels from `$x` on.
macro_rules! taps {
    ($w:literal, $x:literal) => {
        concat!(
            "ldrsb r2, [r0, #",
            $w,
            "]\n",
            "ldrsh r3, [r1, #",
            $x,
            "]\nmla r4, r2, r3, r4\n",
            "ldrsh r3, [r1, #",
            $x,
            "+4]\nmla r5, r2, r3, r5\n",
            "ldrsh r3, [r1, #",
            $x,
            "+8]\nmla r6, r2, r3, r6\n",
            "ldrsh r3, [r1, #",
            $x,
            "+12]\nmla r7, r2, r3, r7\n",
            "ldrsh r3, [r1, #",
            $x,
            "+16]\nmla r8, r2, r3, r8\n",
            "ldrsh r3, [r1, #",
            $x,
            "+20]\nmla r9, r2, r3, r9\n",
            "ldrsh r3, [r1, #",
            $x,
            "+24]\nmla r10, r2, r3, r10\n",
            "ldrsh r3, [r1, #",
            $x,
            "+28]\nmla r11, r2, r3, r11\n",
        )
    };
}

/// Adds `sum_k w[k] x[p][k]` to 8 accumulators: 72 instructions for 32 products.
///
/// # Safety
/// `4 quads` bytes are readable at `weights`, `16 quads` words at `x`; `acc` is valid for 8 words; `quads > 0`.
#[unsafe(naked)]
unsafe extern "C" fn dot_8(weights: *const i8, x: *const u32, acc: *mut i32, quads: usize) {
    naked_asm!(
        "push {{r2, r4-r11, lr}}
         mov r12, r3
         ldm r2, {{r4-r11}}
         2:",
        taps!("0", "0"),
        taps!("1", "32"),
        taps!("2", "2"),
        taps!("3", "34"),
        "adds r0, #4
         adds r1, #64
         subs r12, r12, #1
         bne 2b
         pop {{r2}}
         stm r2, {{r4-r11}}
         pop {{r4-r11, pc}}",
    )
}

/// `out[p] = bias + sum_k weights[k] * x[p][k]` for 8 pixels; `x` as for [`super::dot4`].
pub fn dot8(weights: &[i8], x: &[u32], bias: i32) -> [i32; 8] {
    let mut acc = [bias; 8];
    let quads = (weights.len() / 4).min(x.len() / 16);
    if quads > 0 {
        // SAFETY: `weights` holds `4 quads` bytes and `x` holds `16 quads` words; `acc` has 8.
        unsafe { dot_8(weights.as_ptr(), x.as_ptr(), acc.as_mut_ptr(), quads) };
    }
    acc
}
