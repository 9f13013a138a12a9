# shellcheck shell=bash
# Shared by the scripts that boot Debian kernels under qemu; sourced from the repository's root. Installs nothing
# and needs no privilege: packages are downloaded and unpacked under target/vm.

readonly WORK=$PWD/target/vm

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

# kernel SUITE: prints the directory in which the newest cloud kernel of a Debian suite is unpacked, its image
# as boot/vmlinuz*; it is downloaded when there is none.
kernel() {
  local directory=$WORK/kernel-$1 deb
  if [[ ! -d $directory ]]; then
    need apt-get apt-cache dpkg-deb
    rm -rf "$WORK/fetched"
    mkdir -p "$WORK/fetched/all/boot"
    fetch "$1"
    for deb in "$WORK"/fetched/*.deb; do
      dpkg-deb -x "$deb" "$WORK/fetched/all" || skip "cannot unpack $deb"
    done
    # Newer packages have everything under usr.
    if [[ -d $WORK/fetched/all/usr/lib/modules ]]; then
      mv "$WORK/fetched/all/usr/lib" "$WORK/fetched/all/lib"
      mv "$WORK"/fetched/all/lib/modules/*/vmlinuz "$WORK/fetched/all/boot"
    fi
    compgen -G "$WORK/fetched/all/boot/vmlinuz*" >/dev/null || skip "no image among the packages of $1"
    mv "$WORK/fetched/all" "$directory"
    rm -rf "$WORK/fetched"
  fi
  echo "$directory"
}

# fetch SUITE: downloads the packages of its newest cloud kernel.
fetch() {
  local image parts options=() pattern='linux-image-[0-9][^ ]*'
  if [[ $1 == bookworm ]]; then
    # As this machine has it, with security updates.
    pattern='linux-image-6\.1\.[^ ]*'
  else
    lists "$1"
  fi
  image=$(depends linux-image-cloud-amd64 "$pattern" | head -n 1) || true
  [[ -n $image ]] || skip "no kernel of $1 among the packages known to apt"
  mapfile -t parts < <(depends "$image" 'linux-(binary|modules)-[0-9][^ ]*')
  (cd "$WORK/fetched" && timeout 600 apt-get "${options[@]}" download "$image" "${parts[@]}") \
    >/dev/null 2>"$WORK/apt.log" || skip "apt-get download $image: $(tail -n 1 "$WORK/apt.log")"
}

# depends PACKAGE PATTERN: what it depends on and matches; apt's options are in `options`.
depends() {
  apt-cache "${options[@]}" depends "$1" 2>/dev/null | sed -n 's/^ *Depends: //p' | grep -xE "$2"
}

# lists SUITE [ARCHITECTURE]: fetches the package lists of a suite that this machine may have no source for, from
# where it has those of Debian, and sets `options` so that apt uses them and nothing of the system.
lists() {
  local architecture=${2:-amd64} site
  local own=$WORK/apt-$1-$architecture
  # shellcheck disable=SC2016 # apt's own variables
  site=$(apt-get indextargets --format '$(LABEL) $(SITE)' 'Created-By: Packages' \
    | sed -n 's/^Debian //p' | head -n 1)
  [[ -n $site ]] || skip "apt has no lists of Debian, from where those of $1 could be had"
  mkdir -p "$own/lists/partial" "$own/cache/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site $1 main" >"$own/sources.list"
  options=(-o "Dir::Etc::SourceList=$own/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$own/lists" -o "Dir::Cache=$own/cache" -o APT::Sandbox::User=root
    -o "APT::Architecture=$architecture" -o "APT::Architectures=$architecture" -o Acquire::http::Timeout=30 -o Acquire::Retries=1)
  timeout 300 apt-get "${options[@]}" --error-on=any update >/dev/null 2>"$WORK/apt.log" \
    || skip "apt-get update for $1: $(tail -n 1 "$WORK/apt.log")"
}

# Builds the server and its end-to-end tests, and prints a line for each: its name and where it is. They are
# those of `cargo test --workspace`: with another profile, target or selection of packages cargo would build
# every dependency again, which takes longer than their slower code does in the emulation.
build() {
  cargo test --workspace --locked --test end-to-end --no-run --message-format json \
    | python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] in ("end-to-end", "tidegate"):
        print(message["target"]["name"], message["executable"])' | sort -u
}

# libraries ROOT BINARY...: copies the shared libraries that these are linked with into ROOT, at the same paths.
libraries() {
  local root=$1 library
  shift
  # ldd fails for a static binary, which needs none.
  while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done < <(ldd "$@" 2>/dev/null | grep -oE '/[^ ]+\.so[^ :]*' | sort -u)
}

# pack DIRECTORY FILE: an initrd of it, as the kernel wants it.
pack() {
  (cd "$1" && find . -print0 | cpio --null --quiet -o -H newc -R 0:0 | gzip -1) >"$2"
}

# Takes carriage returns and the firmware's terminal controls out of a serial console.
plain() {
  sed -u -e 's/\r//g' -e 's/\x1bc//g' -e 's/\x1b\[[0-9;?]*[A-Za-z]//g'
}

# boot IMAGE INITRD SECONDS [OPTION...]: the serial console, on standard output. Its end is the machine's power off,
# or the time limit. Emulated, since CI machines rarely offer KVM; one CPU, since
# emulation of more is not reliable with every version of qemu; without cmpxchg16b, after which qemu 7.2 at
# times has wrong flags: Linux 6.12 then ends by a double fault while it starts. Options are qemu's.
boot() {
  timeout --foreground --kill-after 10 "$3" qemu-system-x86_64 -accel tcg -machine q35 -cpu max,-cx16 \
    -smp 1 -m 1536 -nodefaults -no-reboot -nographic -serial stdio -net none \
    -kernel "$1" -initrd "$2" \
    -append 'console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable' "${@:4}" </dev/null
}
