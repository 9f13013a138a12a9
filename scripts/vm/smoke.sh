#!/usr/bin/env bash
# The least kernel tidegate supports, tried for real: boots Debian's 6.1 cloud kernel under qemu with
# tidegate and busybox, runs scripts/vm/init there, and exits 0 or 1 with its verdict. Exits
# 77 where the tools or the kernel package are not available. Nothing is installed and no privilege is
# needed: the kernel package is downloaded and unpacked under target/vm.
#
#   scripts/vm/smoke.sh            build, boot, test
#   scripts/vm/smoke.sh BINARY     with a binary that is there already
set -euo pipefail
cd "$(dirname "$0")/../.."

# shellcheck source=scripts/vm/lib.sh
. scripts/vm/lib.sh

# What the whole virtual machine may take, boot to power off; a good run takes a small part of it.
readonly TIMEOUT_SECONDS=300

# initrd BINARY FILE: busybox, the init script and the binary, as the kernel wants them.
initrd() {
  local root=$WORK/root
  rm -rf "$root"
  mkdir -p "$root"/{bin,dev,proc,sys,srv,etc}
  cp "$(command -v busybox)" "$root/bin/busybox"
  strip -o "$root/bin/tidegate" "$1"
  libraries "$root" "$1"
  cp scripts/vm/init "$root/init"
  chmod 755 "$root/init" "$root"/bin/*
  pack "$root" "$2"
}

[[ $(uname -m) == x86_64 ]] || skip 'needs an x86-64 host'
need qemu-system-x86_64 busybox cpio strip
mkdir -p "$WORK"
# A command substitution ends in a subshell of its own: its skip has to be passed on.
kernel=$(kernel bookworm) || { status=$?; echo "$kernel"; exit $status; }
binary=${1:-$(build | sed -n 's/^tidegate //p')}
built=$SECONDS
initrd "$binary" "$WORK/initrd.gz"

boot "$kernel"/boot/vmlinuz-* "$WORK/initrd.gz" "$TIMEOUT_SECONDS" | plain | tee "$WORK/serial.log" || true
echo "$(basename "$kernel"/lib/modules/*): built in $built s, booted and tested in $((SECONDS - built)) s"
grep -qx 'verdict: pass' "$WORK/serial.log" || {
  echo 'FAILED: the machine did not report a pass'
  exit 1
}
