#!/usr/bin/env bash
# Makes `cargo +cross build --target TARGET` work on Debian from Debian's packages alone: builds the standard library
# (for thumb*-none-* core and alloc) once from the matched pair rustc-web and rust-web-src and links them as a rustup
# toolchain called `cross`. The default toolchain stays as it is. About 30 s of CPU a microcontroller, two minutes
# another target, once. Elsewhere `rustup target add TARGET` does the same job.
#
#   cross-toolchain.sh TARGET...
set -euo pipefail
name=cross
dir=${XDG_CACHE_HOME:-$HOME/.cache}/residual-cross
host=x86_64-unknown-linux-gnu
say() { echo "cross-toolchain: $*" >&2; }
install() { # a file the packages bring, packages
  [ -e "$1" ] && return
  shift
  say "installing $*"
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

install /usr/bin/rustc rustc-web
install /usr/lib/rustlib/src/rust/library rust-web-src
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
  parts=std,panic_abort,panic_unwind,test
  case $target in
    *-none-*) parts=core,alloc ;;
    wasm32-wasip1)
      parts=std,panic_abort,test
      install /usr/lib/wasm32-wasi/libc.a wasi-libc
      ;;
  esac
  say "building $parts for $target"
  build=$(mktemp -d)
  rm -rf "$lib"
  mkdir -p "$lib" "$build/src"
  printf '[package]\nname = "x"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n' >"$build/Cargo.toml"
  printf '#![no_std]\n' >"$build/src/lib.rs"
  # /usr/bin/rustc itself: the source root must be a plain path, without --sysroot.
  # embed-bitcode: usable with and without link-time optimisation, as rustup's own libraries are.
  (cd "$build" && RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS="-C embed-bitcode=yes" CARGO_INCREMENTAL=0 \
    CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 \
    cargo build -q --release -Zbuild-std=$parts --target "$target" >&2)
  rm -f "$build/target/$target/release/deps/"libx-*
  cp "$build/target/$target/release/deps/"lib*.rlib "$lib/"
  if [ "$target" = wasm32-wasip1 ]; then
    # What rustup's copy of the library brings with it.
    mkdir -p "$lib/self-contained"
    cp /usr/lib/wasm32-wasi/{crt1-command.o,crt1-reactor.o,libc.a} "$lib/self-contained/"
  fi
  rm -rf "$build"
  touch "$lib/.done-$version"
done
