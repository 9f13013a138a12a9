#!/usr/bin/env bash
# What HTTPS costs with the kernel's TLS and without it, in instructions: boots Debian's 6.1 kernel under qemu,
# whose clock moves on by a nanosecond with each instruction (-icount shift=0), so that the CPU time that the guest
# counts for a server are its instructions, in user space and in the kernel. tidegate and nginx, each with kTLS
# and without, are asked by tidegate-load; scripts/bench/ktls-init runs in the guest. docs/tls.md says what
# instructions do not tell. Exits 77 where something is missing; needs no privilege. It takes four minutes.
#
#   scripts/bench/ktls.sh              builds the release and the client, and prints the table
#   ... --server BIN --load BIN        of these, instead of building them
#
# On Debian: apt-get install qemu-system-x86 busybox-static cpio xz-utils kmod e2fsprogs openssl nginx-light linux-perf
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/../lib/help.sh"
cd "$(dirname "$0")/../.."
# shellcheck source=scripts/vm/lib.sh
. scripts/vm/lib.sh

# What the virtual machine may take, boot to power off.
readonly TIMEOUT_SECONDS=900
# The kernel's TLS with its ciphers, and the disk.
readonly MODULES=(net/tls crypto arch/x86/crypto lib/crypto drivers/virtio drivers/block)
# String instructions count once for each element, so the kernel must not copy by bytes; and no AES that works on
# several blocks at once, which only one of the two libraries has.
readonly CPU=max,-cx16,-erms,-fsrm,-vaes,-vpclmulqdq

parse_options() {
  server='' client=''
  while (($# > 0)); do
    [[ $# -ge 2 ]] || { echo "ktls.sh: $1 needs a value" >&2 && exit 2; }
    case $1 in
      --server) server=$(realpath "$2") ;;
      --load) client=$(realpath "$2") ;;
      *) echo "ktls.sh: there is no option $1 (--help has the usage)" >&2 && exit 2 ;;
    esac
    shift 2
  done
  [[ -n $server && -n $client ]] || cargo build --release --locked -p tidegate -p tidegate-load
  server=${server:-$PWD/target/release/tidegate} client=${client:-$PWD/target/release/tidegate-load}
}

# modules KERNEL ROOT: those of MODULES that the kernel unpacked in KERNEL has.
modules() {
  local from version module
  from=$(echo "$1"/lib/modules/*)
  version=$(basename "$from")
  for module in "${MODULES[@]}"; do
    [[ -d $from/kernel/$module ]] || continue
    mkdir -p "$2/lib/modules/$version/kernel/$module"
    cp -r "$from/kernel/$module/." "$2/lib/modules/$version/kernel/$module/"
  done
  find "$2/lib" -name '*.ko.xz' -exec xz -d {} +
  cp "$from"/modules.{builtin,order} "$2/lib/modules/$version/"
  depmod -b "$2" "$version" 2>"$WORK/depmod.log"
}

# nginx_config KTLS: as compare.sh has it, with that setting of OpenSSL's.
nginx_config() {
  local tls=' ssl;\n ssl_protocols TLSv1.3;\n ssl_certificate /etc/tls/cert.pem;\n ssl_certificate_key /etc/tls/key.pem'
  local io='sendfile on; open_file_cache max=10000 inactive=60s; open_file_cache_valid 60s;'
  sed -e "s|@TLS@|$tls|; s|@IO@|$io ssl_conf_command Options $1;|; s|@PORT@|8443|; s|@RUN@|/tmp|; s|@TREE@|/srv|" \
    -e 's/@BROTLI@//; s/@BROTLI_STATIC@//' scripts/bench/peers/nginx.conf
}

# tidegate_config KTLS: on one core, all else as it comes.
tidegate_config() {
  cat <<END
[server]
cores = "0-0"
[[listen]]
address = "127.0.0.1:8443"
tls = true
[tls]
ktls = "$1"
[[tls.certificates]]
cert = "/etc/tls/cert.pem"
key = "/etc/tls/key.pem"
[[site]]
root = "/srv"
END
}

# initrd KERNEL FILE: busybox, the modules, the servers, their configurations, the client and perf.
initrd() {
  local root=$WORK/root-ktls programs
  rm -rf "$root"
  mkdir -p "$root"/{bin,dev,proc,sys,srv,tmp,etc/tls,etc/nginx,var/lib/nginx,var/log/nginx}
  cp "$(command -v busybox)" "$root/bin/busybox"
  programs=("$(command -v nginx)" "$(command -v perf)" "$(command -v openssl)")
  cp "$server" "$root/bin/tidegate"
  cp "$client" "$root/bin/tidegate-load"
  cp -L "${programs[@]}" "$root/bin"
  libraries "$root" "$server" "$client" "${programs[@]}"
  modules "$1" "$root"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 20 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
    -keyout "$root/etc/tls/key.pem" -out "$root/etc/tls/cert.pem" 2>/dev/null
  cp /etc/nginx/mime.types "$root/etc/nginx"
  nginx_config KTLS >"$root/etc/nginx-kernel"
  nginx_config -KTLS >"$root/etc/nginx-user"
  tidegate_config auto >"$root/etc/tidegate-kernel"
  tidegate_config off >"$root/etc/tidegate-user"
  cp scripts/bench/ktls-init "$root/init"
  chmod 755 "$root/init" "$root"/bin/*
  pack "$root" "$2"
}

# disk FILE: a file system with what is served.
disk() {
  local tree=$WORK/tree-ktls size
  mkdir -p "$tree"
  for size in 1024 65536 1048576 104857600; do
    [[ -e $tree/$size.bin ]] || head -c "$size" /dev/urandom >"$tree/$size.bin"
  done
  rm -f "$1"
  mke2fs -q -t ext4 -d "$tree" "$1" 160M
}

[[ $(uname -m) == x86_64 ]] || skip 'needs an x86-64 host'
# Where depmod, mke2fs and nginx are.
PATH=$PATH:/sbin:/usr/sbin
parse_options "$@"
need qemu-system-x86_64 busybox cpio xz depmod mke2fs openssl nginx perf python3
mkdir -p "$WORK"
# A command substitution ends in a subshell of its own: its skip has to be passed on.
kernel=$(kernel bookworm) || { status=$?; echo "$kernel"; exit $status; }
initrd "$kernel" "$WORK/initrd-ktls.gz"
disk "$WORK/ktls.img"
boot "$kernel"/boot/vmlinuz* "$WORK/initrd-ktls.gz" "$TIMEOUT_SECONDS" -cpu "$CPU" -icount shift=0,sleep=off \
  -drive "file=$WORK/ktls.img,format=raw,if=virtio,readonly=on" | plain | tee "$WORK/ktls.log" || true
python3 scripts/bench/ktls.py "$WORK/ktls.log"
