#!/usr/bin/env bash
# What depends on the kernel, for real: boots Debian kernels under qemu and runs the smoke test there on the
# least of them, and on each the end-to-end tests of TLS with the kernel's own TLS, whose counters and trace
# prove who encrypted and who moved the bytes. Prints a table of every check on every kernel; exits 0 if all
# passed, 1 if not, 77 where the tools or the packages are not available.
#
#   scripts/vm/test.sh              on every kernel of the suites below that is available
#   scripts/vm/test.sh SUITE...     on the kernels of these suites of Debian
#
# Kernels are kept in target/vm/kernel-SUITE until they are deleted there.
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/../lib/help.sh"
cd "$(dirname "$0")/../.."
# shellcheck source=scripts/vm/lib.sh
. scripts/vm/lib.sh

# The least kernel, the newest for the same Debian, and one that can change the keys of a connection.
readonly SUITES=(bookworm bookworm-backports trixie-backports)
# What one virtual machine may take, boot to power off. A good run takes half of it.
readonly TIMEOUT_SECONDS=1200
# What the guest loads to encrypt by itself.
readonly MODULES=(net/tls crypto arch/x86/crypto lib/crypto)

# initrd KERNEL FILE: busybox, the modules of the kernel unpacked in KERNEL, and what was built.
initrd() {
  local root=$WORK/root-tests modules version module
  modules=$(echo "$1"/lib/modules/*)
  version=$(basename "$modules")
  rm -rf "$root"
  mkdir -p "$root"/{bin,dev,proc,sys,etc,tmp,test}
  cp "$(command -v busybox)" "$root/bin/busybox"
  cp scripts/vm/init-tls "$root/init"
  chmod 755 "$root/init"
  for module in "${MODULES[@]}"; do
    [[ -d $modules/kernel/$module ]] || continue
    mkdir -p "$root/lib/modules/$version/kernel/$module"
    cp -r "$modules/kernel/$module/." "$root/lib/modules/$version/kernel/$module/"
  done
  find "$root/lib" -name '*.ko.xz' -exec xz -d {} +
  find "$modules" -maxdepth 1 \( -name modules.builtin -o -name modules.order \) \
    -exec cp {} "$root/lib/modules/$version/" \;
  depmod -b "$root" "$version" 2>"$WORK/depmod.log"
  strip -o "$root/test/end-to-end" "$tests"
  strip -o "$root/test/tidegate" "$server"
  libraries "$root" "$tests" "$server"
  # The tests look for the server where it was built.
  echo "$server" >"$root/test/path"
  pack "$root" "$2"
}

# Rows of the table in their order, its columns, and what is in it, by row and column.
checks=()
columns=()
declare -A cells=()

# collect COLUMN LOG: puts the rows that a guest printed into the table.
collect() {
  local check cell
  while IFS='|' read -r check cell; do
    [[ " ${checks[*]} " == *" $check "* ]] || checks+=("$check")
    cells[$check|$1]=$cell
  done < <(sed -n 's/^row: //p' "$2")
}

# passed LOG: whether the guest got to its end, and well.
passed() {
  grep -qx 'verdict: pass' "$1"
}

# try SUITE KERNEL: everything on the kernel unpacked in KERNEL; a column of the table.
try() {
  local column log=$WORK/tls-$1.log begin=$SECONDS failed=0
  column=$(basename "$2"/lib/modules/*)
  column=${column%-cloud-amd64}
  columns+=("$column")
  if [[ $1 == bookworm ]]; then
    scripts/vm/smoke.sh "$server" || failed=1
    collect "$column" "$WORK/serial.log"
  fi
  initrd "$2" "$WORK/initrd-tests.gz"
  boot "$2"/boot/vmlinuz* "$WORK/initrd-tests.gz" "$TIMEOUT_SECONDS" | plain | tee "$log" || true
  collect "$column" "$log"
  passed "$log" || failed=1
  notes+=("$column: $([[ $failed == 0 ]] && echo passed || echo FAILED), $((SECONDS - begin)) s")
  return $failed
}

table() {
  local check column
  printf '\nok or FAILED, seconds, connections that the kernel encrypted\n\n'
  printf '%-22s' "${columns[@]}"
  echo check
  for check in "${checks[@]}"; do
    for column in "${columns[@]}"; do printf '%-22s' "${cells[$check|$column]:--}"; done
    echo "$check"
  done
  echo
  printf '%s\n' "${notes[@]}"
}

[[ $(uname -m) == x86_64 ]] || skip 'needs an x86-64 host'
# Where depmod is.
PATH=$PATH:/sbin:/usr/sbin
need qemu-system-x86_64 busybox cpio xz depmod strip python3
mkdir -p "$WORK"
[[ ${1:-} != -* ]] || {
  echo "test.sh: there is no option $1 (--help has the usage)" >&2
  exit 2
}
suites=("$@")
(($# > 0)) || suites=("${SUITES[@]}")
status=0
notes=()
kernels=()
for suite in "${suites[@]}"; do
  # A command substitution ends in a subshell of its own: its skip has to be passed on.
  if kernel=$(kernel "$suite"); then
    kernels+=("$suite $kernel")
  else
    notes+=("$suite: $kernel")
  fi
done
((${#kernels[@]} > 0)) || skip "${notes[*]//skipped: /}"

built=$(build)
server=$(sed -n 's/^tidegate //p' <<<"$built")
tests=$(sed -n 's/^end-to-end //p' <<<"$built")
notes+=("built in $SECONDS s")
for kernel in "${kernels[@]}"; do
  try "${kernel%% *}" "${kernel#* }" || status=1
done
table
exit $status
