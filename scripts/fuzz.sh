#!/usr/bin/env bash
# Fuzzes the parsers and state machines that do no I/O, whose targets are in crates/fuzz-targets: each for
# SECONDS, one after the other, by libFuzzer with AddressSanitizer. It starts with fuzz/corpus, and with what
# earlier runs have found to reach more code, which stays in target/fuzz/corpus. The exit status is 1 if a
# target was found to fail: the line names the file. After it is mended, the file goes to
# fuzz/regressions/TARGET, which the tests read.
#
#   scripts/fuzz.sh                       all targets, 600 s each
#   scripts/fuzz.sh SECONDS [TARGET...]   these (all without a name) for so long
#
# The targets:
#
#   conditional    If-Match and so on, entity tags, dates
#   config         the text of a configuration
#   forwarded      X-Forwarded-For and Forwarded
#   glob           patterns of paths
#   h1_connection  HTTP/1.1: pipelined heads and bodies, however they are cut
#   h1_head        HTTP/1.1: one head
#   h2_connection  HTTP/2: the bytes of a connection, however they are cut
#   h2_frames      the same from frames, whose lengths are right
#   hpack          the header blocks of a connection
#   negotiate      Accept-Encoding and Accept
#   proxy_header   the header of the PROXY protocol, beside a slow reading of it
#   range          Range, Content-Range, multipart/byteranges
#   target         the target of a request, and the names of sites
#   tls_handshake  TLS: the handshake, as a server sees it
#   tls_records    TLS 1.3: records and KeyUpdates behind the handshake
#
# It needs a C++ compiler for libFuzzer, which is in the crate libfuzzer-sys. The compiler of Rust may be a stable
# one; where it comes without AddressSanitizer, there is none.
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/lib/help.sh"
script=$(realpath "$0")
cd "$(dirname "$0")/.."

# An input takes less than a tenth of a millisecond as a rule, and a few kilobytes.
readonly INPUT_SECONDS_MAX=10 MEMORY_MB_MAX=2048
# Longer inputs show nothing that shorter ones do not, and are slow.
readonly INPUT_BYTES_MAX=4096

seconds=${1:-600}
[[ $seconds =~ ^[0-9]+$ ]] || {
  echo "fuzz.sh: SECONDS is a number, not $seconds" >&2
  exit 2
}
shift $(($# > 0))

# The targets, from the list in the comment above.
mapfile -t targets < <(sed -n 's/^#   \([a-z0-9_]*\)  *[^ ].*/\1/p' "$script" | grep -v '^scripts')
for target in "$@"; do
  [[ " ${targets[*]} " == *" $target "* ]] || {
    echo "fuzz.sh: there is no target $target; there are: ${targets[*]}" >&2
    exit 2
  }
done
(($# == 0)) || targets=("$@")

host=$(rustc -vV | sed -n 's/^host: //p')
directory=$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzz

# The options that cargo-fuzz gives: counters at each edge, and the values that are compared.
flags=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares)
if compgen -G "$(rustc --print sysroot)/lib/rustlib/$host/lib/librustc-*_rt.asan.a" >/dev/null; then
  flags+=(-Zsanitizer=address)
else
  echo 'this compiler has no AddressSanitizer: without it'
fi

build() {
  local target bins=()
  for target in "${targets[@]}"; do bins+=(--bin "$target"); done
  # A target of its own, so that what runs while it builds is not instrumented. The options are not stable.
  RUSTC_BOOTSTRAP=1 RUSTFLAGS=${flags[*]} CARGO_TARGET_DIR=$directory \
    cargo build --quiet --release --locked --target "$host" --manifest-path fuzz/Cargo.toml "${bins[@]}"
}

# fuzz TARGET: runs it, and prints a line. Its status is 1 if an input fails.
fuzz() {
  local target=$1 status=0 log=$directory/$1.log dictionary=() inputs=("$directory/corpus/$1" "fuzz/corpus/$1")
  local found=$directory/found/$1
  mkdir -p "$directory/corpus/$target" "$found"
  [[ ! -d fuzz/regressions/$target ]] || inputs+=("fuzz/regressions/$target")
  [[ ! -f fuzz/dictionaries/$target ]] || dictionary=("-dict=fuzz/dictionaries/$target")
  "$directory/$host/release/$target" "${inputs[@]}" "${dictionary[@]}" -artifact_prefix="$found/" \
    -max_total_time="$seconds" -max_len=$INPUT_BYTES_MAX -timeout=$INPUT_SECONDS_MAX \
    -rss_limit_mb=$MEMORY_MB_MAX -print_final_stats=1 >"$log" 2>&1 || status=$?
  local runs edges
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  edges=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
  printf '%-14s %10s inputs, %6s edges: ' "$target" "${runs:-no}" "${edges:-no}"
  if ((status == 0)); then
    echo 'nothing found'
    return 0
  fi
  local file
  file=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
  printf 'FOUND with status %d: %s (%s)\n' $status "${file:-no input}" "$log"
  grep -m 5 -A 4 -E "panicked at|^==[0-9]+== ?ERROR|ERROR: libFuzzer|SUMMARY" "$log" | sed 's/^/    /' || true
  return 1
}

build
failed=()
for target in "${targets[@]}"; do
  fuzz "$target" || failed+=("$target")
done
((${#failed[@]} == 0)) || {
  echo "found something: ${failed[*]}"
  exit 1
}
echo 'found nothing'
