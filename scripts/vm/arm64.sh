#!/usr/bin/env bash
# The binary for arm64, for real: boots Debian's arm64 kernel under qemu-system-aarch64 with it and busybox, and
# runs scripts/vm/init there: small and large files, ranges, several downloads at once, another user, HTTPS. All
# is emulated, which takes about two minutes: qemu's emulation of a process alone has no io_uring. Exits 0 or 1
# with its verdict, 77 where the tools or the packages are not available. Nothing is installed and no privilege is
# needed: packages are downloaded and unpacked under target/vm.
#
#   scripts/vm/arm64.sh BINARY     such as: scripts/vm/arm64.sh target/aarch64-unknown-linux-gnu/dist/tidegate
#
# On Debian: apt-get install qemu-system-arm gcc-aarch64-linux-gnu cpio openssl
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/../lib/help.sh"
(($# == 1)) || {
  echo 'arm64.sh: which binary? (--help has the usage)' >&2
  exit 2
}
binary=$(realpath "$1")
cd "$(dirname "$0")/../.."
# shellcheck source=scripts/vm/lib.sh
. scripts/vm/lib.sh

# What the whole virtual machine may take, boot to power off.
readonly TIMEOUT_SECONDS=600
readonly FETCHED=$WORK/arm64
# Where Debian's cross compiler has the shared libraries of arm64.
readonly LIBRARIES=/usr/aarch64-linux-gnu/lib

# fetch_arm64: the newest cloud kernel for arm64, and busybox, unpacked in FETCHED.
fetch_arm64() {
  local image deb options=()
  [[ ! -d $FETCHED ]] || return 0
  need apt-get apt-cache dpkg-deb
  rm -rf "$FETCHED.new"
  mkdir -p "$FETCHED.new"
  lists bookworm arm64
  image=$(depends linux-image-cloud-arm64 'linux-image-[0-9][^ ]*' | head -n 1)
  (cd "$FETCHED.new" && timeout 600 apt-get "${options[@]}" download "$image" busybox-static) \
    >/dev/null 2>"$WORK/apt.log" || skip "apt-get download $image: $(tail -n 1 "$WORK/apt.log")"
  for deb in "$FETCHED.new"/*.deb; do
    dpkg-deb -x "$deb" "$FETCHED.new" && rm "$deb"
  done
  mv "$FETCHED.new" "$FETCHED"
}

# initrd FILE: busybox, the init script, the binary and its libraries, and a certificate.
initrd() {
  local root=$WORK/root-arm64 library
  rm -rf "$root"
  mkdir -p "$root"/{bin,dev,proc,sys,srv,etc/tls,lib}
  cp "$FETCHED/bin/busybox" "$root/bin/busybox"
  aarch64-linux-gnu-strip -o "$root/bin/tidegate" "$binary"
  while read -r library; do
    cp -L "$LIBRARIES/$library" "$root/lib"
  done < <(aarch64-linux-gnu-readelf --dynamic --program-headers "$binary" \
    | sed -n 's/.*Shared library: \[\(.*\)\]/\1/p; s/.*interpreter: .*\/\(.*\)\]/\1/p')
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=guest \
    -addext subjectAltName=IP:127.0.0.1 -keyout "$root/etc/tls/key.pem" -out "$root/etc/tls/cert.pem" 2>/dev/null
  cp scripts/vm/init "$root/init"
  chmod 755 "$root/init" "$root"/bin/*
  pack "$root" "$1"
}

need qemu-system-aarch64 aarch64-linux-gnu-strip cpio openssl
mkdir -p "$WORK"
fetch_arm64
initrd "$WORK/initrd-arm64.gz"
timeout --foreground --kill-after 10 "$TIMEOUT_SECONDS" qemu-system-aarch64 -accel tcg -machine virt -cpu cortex-a72 \
  -smp 1 -m 1536 -nodefaults -no-reboot -nographic -serial stdio -net none \
  -kernel "$FETCHED"/boot/vmlinuz-* -initrd "$WORK/initrd-arm64.gz" \
  -append 'console=ttyAMA0 quiet panic=-1 mitigations=off' </dev/null | plain | tee "$WORK/serial-arm64.log" || true
echo "$(basename "$FETCHED"/lib/modules/*): booted and tested in $SECONDS s"
grep -qx 'verdict: pass' "$WORK/serial-arm64.log" || {
  echo 'FAILED: the machine did not report a pass'
  exit 1
}
