#!/usr/bin/env bash
# HTTPS with the kernel's own TLS, for real: the end-to-end tests of TLS, as a static binary, in virtual
# machines that boot Debian kernels, with the kernel's counters to prove who encrypted. The smoke test of
# the least kernel comes first. Prints a table; exits 0 if all passed, 1 if not, 77 where the tools or the
# packages can't be had.
#
#   scripts/vm/test.sh             on 6.1, as apt has it
#   scripts/vm/test.sh DEB...      on 6.1 and on the kernels in these packages: an image, or the binary and
#                                  the modules of one kernel, one after the other
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=scripts/vm/lib.sh
. scripts/vm/lib.sh

# What one virtual machine may take, boot to power off.
readonly TIMEOUT_SECONDS=580
# What the guest loads to encrypt by itself.
readonly MODULES=(net/tls crypto arch/x86/crypto lib/crypto)

# unpack DIRECTORY DEB...: the image and the modules of a kernel.
unpack() {
  local directory=$1 deb
  shift
  rm -rf "$directory"
  mkdir -p "$directory"
  for deb in "$@"; do dpkg-deb -x "$deb" "$directory"; done
  [[ ! -d $directory/usr/lib/modules || -d $directory/lib ]] || ln -s usr/lib "$directory/lib"
}

# image DIRECTORY: the kernel that is unpacked there.
image() {
  find "$1/" -name 'vmlinuz*' | head -n 1
}

# Builds the server and its tests as static binaries: fast to build, since the emulation is slow anyway.
build() {
  RUSTFLAGS='-C target-feature=+crt-static' CARGO_TARGET_DIR=$WORK/static-tests \
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    CARGO_PROFILE_RELEASE_DEBUG=none CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
    cargo test --release --locked --package tidegate --test end-to-end --no-run --target "$TARGET" \
    --message-format json \
    | python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] in ("end-to-end", "tidegate"):
        print(message["target"]["name"], message["executable"])' | sort -u
}

# initrd KERNEL FILE: busybox, the modules of the kernel unpacked in KERNEL, and what was built.
initrd() {
  local root=$WORK/root-tests version module
  version=$(basename "$(find "$1/lib/modules/" -mindepth 1 -maxdepth 1 | head -n 1)")
  rm -rf "$root"
  mkdir -p "$root"/{bin,dev,proc,sys,etc,tmp,test}
  cp "$(command -v busybox)" "$root/bin/busybox"
  cp scripts/vm/init-tls "$root/init"
  chmod 755 "$root/init"
  for module in "${MODULES[@]}"; do
    mkdir -p "$root/lib/modules/$version/kernel/$module"
    cp -r "$1/lib/modules/$version/kernel/$module/." "$root/lib/modules/$version/kernel/$module/"
  done
  find "$root/lib" -name '*.ko.xz' -exec xz -d {} +
  cp "$1/lib/modules/$version"/modules.{builtin,order} "$root/lib/modules/$version/"
  PATH=$PATH:/sbin:/usr/sbin depmod -b "$root" "$version"
  strip -o "$root/test/end-to-end" "$tests"
  strip -o "$root/test/tidegate" "$server"
  # The tests look for the server where it was built.
  echo "$server" >"$root/test/path"
  pack "$root" "$2"
}

# field NAME FILE: what the guest said of it.
field() {
  sed -n "s/^$1: //p" "$2" | tail -n 1
}

# try KERNEL: boots it, and adds a row to the table.
try() {
  local log row
  log=$WORK/tls-$(basename "$1").log
  initrd "$1" "$WORK/initrd-tests.gz"
  boot "$(image "$1")" "$WORK/initrd-tests.gz" "$TIMEOUT_SECONDS" | plain | tee "$log" || true
  printf -v row '%-28s %-36s %8s %8s %s' "$(field kernel "$log")" "$(field tests "$log")" \
    "$(field sent "$log")" "$(field received "$log")" "$(field verdict "$log")"
  rows+=("$row")
  [[ $(field verdict "$log") == pass ]]
}

[[ $(uname -m) == x86_64 ]] || skip 'needs an x86-64 host'
need qemu-system-x86_64 busybox cpio xz depmod strip python3
status=0
rows=()
if [[ ! -d $WORK/kernel-6.1/lib ]]; then
  rm -rf "$WORK/fetched"
  fetch "$WORK/fetched"
  unpack "$WORK/kernel-6.1" "$WORK"/fetched/*.deb
fi
built=$(build)
server=$(sed -n 's/^tidegate //p' <<<"$built")
tests=$(sed -n 's/^end-to-end //p' <<<"$built")
scripts/vm/smoke.sh "$server" || status=1
try "$WORK/kernel-6.1" || status=1
if (($# > 0)); then
  unpack "$WORK/kernel-given" "$@"
  try "$WORK/kernel-given" || status=1
fi

printf '\n%-28s %-36s %8s %8s %s\n' kernel tests sent received verdict
printf '%s\n' "${rows[@]}"
exit $status
