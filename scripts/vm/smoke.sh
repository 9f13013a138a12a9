#!/usr/bin/env bash
# The least kernel tidegate supports, tried for real: boots Debian's 6.1 cloud kernel under qemu with
# a static tidegate and busybox, runs scripts/vm/init there, and exits 0 or 1 with its verdict. Exits
# 77 where the tools or the kernel package can't be had. Nothing is installed and no privilege is
# needed: the kernel package is downloaded and unpacked under target/vm.
#
#   scripts/vm/smoke.sh            build, boot, test
#   scripts/vm/smoke.sh BINARY     with a static binary that is there already
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly WORK=$PWD/target/vm
readonly TARGET=x86_64-unknown-linux-gnu
# What the whole virtual machine may take, boot to power off; a good run takes a small part of it.
readonly TIMEOUT_SECONDS=300

skip() {
  echo "skipped: $*"
  exit 77
}

need() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || skip "$tool is not installed (see .ci/run)"
  done
}

# Prints the path of the newest unpacked 6.1 kernel, downloading it first when there is none.
kernel() {
  local package image
  image=$(find "$WORK/kernel" -path '*/boot/vmlinuz-6.1.*' 2>/dev/null | sort -V | tail -n 1)
  if [[ -z $image ]]; then
    need apt-get apt-cache dpkg-deb
    package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null \
      | grep -o 'linux-image-6\.1\.[^ ]*' | head -n 1) || true
    [[ -n $package ]] || skip 'no 6.1 kernel among the packages known to apt (Debian 12 has it)'
    mkdir -p "$WORK/kernel"
    (cd "$WORK/kernel" && apt-get download "$package" >/dev/null 2>"$WORK/apt.log") \
      || skip "apt-get download $package: $(tail -n 1 "$WORK/apt.log")"
    dpkg-deb -x "$WORK"/kernel/"$package"_*.deb "$WORK/kernel"
    rm -rf "$WORK"/kernel/*.deb "$WORK/kernel/lib" "$WORK/kernel/usr"
    image=$(find "$WORK/kernel" -path '*/boot/vmlinuz-6.1.*' | sort -V | tail -n 1)
  fi
  echo "$image"
}

# Prints the path of the static binary. It has a target directory of its own, since its flags would
# make cargo rebuild everything else.
static_binary() {
  RUSTFLAGS='-C target-feature=+crt-static' CARGO_TARGET_DIR=$WORK/static \
    cargo build --release --locked --package tidegate --target "$TARGET" >&2
  echo "$WORK/static/$TARGET/release/tidegate"
}

# initrd BINARY FILE: busybox, the init script and the binary, as the kernel wants them.
initrd() {
  local root=$WORK/root
  rm -rf "$root"
  mkdir -p "$root"/{bin,dev,proc,sys,srv,etc}
  cp "$(command -v busybox)" "$root/bin/busybox"
  cp "$1" "$root/bin/tidegate"
  cp scripts/vm/init "$root/init"
  chmod 755 "$root/init" "$root"/bin/*
  (cd "$root" && find . -print0 | cpio --null --quiet -o -H newc -R 0:0 | gzip -1) >"$2"
}

# Takes carriage returns and the firmware's terminal controls out of a serial console.
plain() {
  sed -u -e 's/\r//g' -e 's/\x1bc//g' -e 's/\x1b\[[0-9;?]*[A-Za-z]//g'
}

# boot IMAGE INITRD: the serial console, on standard output. Its end is the machine's power off.
# Emulated, since KVM is rarely to be had where CI runs; one CPU, since emulation of more is not
# reliable with every version of qemu.
boot() {
  timeout --kill-after 10 "$TIMEOUT_SECONDS" qemu-system-x86_64 -accel tcg -machine q35 -cpu max \
    -smp 1 -m 1024 -nodefaults -no-reboot -nographic -serial stdio -net none \
    -kernel "$1" -initrd "$2" \
    -append 'console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable' </dev/null
}

[[ $(uname -m) == x86_64 ]] || skip 'needs an x86-64 host'
need qemu-system-x86_64 busybox cpio
mkdir -p "$WORK"
# A command substitution ends in a subshell of its own: its skip has to be passed on.
image=$(kernel) || { status=$?; echo "$image"; exit $status; }
binary=${1:-$(static_binary)}
built=$SECONDS
initrd "$binary" "$WORK/initrd.gz"

boot "$image" "$WORK/initrd.gz" | plain | tee "$WORK/serial.log" || true
echo "$(basename "$image"): built in $built s, booted and tested in $((SECONDS - built)) s"
grep -qx 'verdict: pass' "$WORK/serial.log" || {
  echo 'FAILED: the machine did not report a pass'
  exit 1
}
