# shellcheck shell=bash
# What the scripts that boot Debian kernels under qemu share. Nothing is installed and no privilege is
# needed: packages are downloaded and unpacked under target/vm. To be sourced from the repository's root.

readonly WORK=$PWD/target/vm
# shellcheck disable=SC2034 # for those who source this
readonly TARGET=x86_64-unknown-linux-gnu

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

# fetch DIRECTORY: downloads apt's newest 6.1 cloud kernel as a package into it.
fetch() {
  local package
  need apt-get apt-cache dpkg-deb
  package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null \
    | grep -o 'linux-image-6\.1\.[^ ]*' | head -n 1) || true
  [[ -n $package ]] || skip 'no 6.1 kernel among the packages known to apt (Debian 12 has it)'
  mkdir -p "$1"
  (cd "$1" && apt-get download "$package" >/dev/null 2>"$WORK/apt.log") \
    || skip "apt-get download $package: $(tail -n 1 "$WORK/apt.log")"
}

# pack DIRECTORY FILE: an initrd of it, as the kernel wants it.
pack() {
  (cd "$1" && find . -print0 | cpio --null --quiet -o -H newc -R 0:0 | gzip -1) >"$2"
}

# Takes carriage returns and the firmware's terminal controls out of a serial console.
plain() {
  sed -u -e 's/\r//g' -e 's/\x1bc//g' -e 's/\x1b\[[0-9;?]*[A-Za-z]//g'
}

# boot IMAGE INITRD SECONDS: the serial console, on standard output. Its end is the machine's power off,
# or the end of the time. Emulated, since KVM is rarely to be had where CI runs; one CPU, since
# emulation of more is not reliable with every version of qemu.
boot() {
  timeout --kill-after 10 "$3" qemu-system-x86_64 -accel tcg -machine q35 -cpu max \
    -smp 1 -m 1536 -nodefaults -no-reboot -nographic -serial stdio -net none \
    -kernel "$1" -initrd "$2" \
    -append 'console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable' </dev/null
}
