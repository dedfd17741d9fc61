#!/usr/bin/env bash
# Makes `cargo +thumb build --target thumb*` work on Debian from Debian's packages alone: builds core,
# alloc and compiler_builtins once from the matched pair rustc-web and rust-web-src and links them as a
# rustup toolchain called `thumb`. The default toolchain stays as it is. About 30 s of CPU a target, once.
# Elsewhere `rustup target add <target>` does the same job.
#
#   thumb-toolchain.sh TARGET...
set -euo pipefail
name=thumb
dir=${XDG_CACHE_HOME:-$HOME/.cache}/thumb-toolchain
host=x86_64-unknown-linux-gnu
say() { echo "thumb-toolchain: $*" >&2; }

if ! [ -x /usr/bin/rustc ] || ! [ -d /usr/lib/rustlib/src/rust/library ]; then
  say "installing rustc-web and rust-web-src"
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rustc-web rust-web-src >&2
fi
# Any lld of at least LLVM's major version links; link-time optimisation happens in rustc.
lld=$(rustc --print sysroot)/lib/rustlib/$host/bin/rust-lld
[ -x "$lld" ] || lld=$(command -v ld.lld || command -v arm-none-eabi-ld)
version=$(/usr/bin/rustc -vV | cksum | cut -d' ' -f1)

mkdir -p "$dir/bin" "$dir/lib/rustlib/$host/bin"
printf '#!/bin/sh\nexec /usr/bin/rustc --sysroot "%s" "$@"\n' "$dir" >"$dir/bin/rustc"
chmod +x "$dir/bin/rustc"
ln -sfn /usr/lib/rustlib/$host/lib "$dir/lib/rustlib/$host/lib"
ln -sfn /usr/lib/rustlib/src "$dir/lib/rustlib/src"
ln -sfn "$lld" "$dir/lib/rustlib/$host/bin/rust-lld"
ln -sfn "$(rustup which cargo)" "$dir/bin/cargo" # without it rustup looks for another cargo
rustup toolchain link $name "$dir" 2>/dev/null

for target in "$@"; do
  lib=$dir/lib/rustlib/$target/lib
  [ -f "$lib/.done-$version" ] && continue
  say "building core and alloc for $target"
  build=$(mktemp -d)
  rm -rf "$lib"
  mkdir -p "$lib" "$build/src"
  printf '[package]\nname = "x"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n' >"$build/Cargo.toml"
  printf '#![no_std]\n' >"$build/src/lib.rs"
  # /usr/bin/rustc itself: the source root must be a plain path, without --sysroot.
  # embed-bitcode: usable with and without link-time optimisation, as rustup's own libraries are.
  (cd "$build" && RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS="-C embed-bitcode=yes" CARGO_INCREMENTAL=0 \
    CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 \
    cargo build -q --release -Zbuild-std=core,alloc --target "$target" >&2)
  cp "$build/target/$target/release/deps/"lib{core,alloc,compiler_builtins}-*.rlib "$lib/"
  rm -rf "$build"
  touch "$lib/.done-$version"
done
