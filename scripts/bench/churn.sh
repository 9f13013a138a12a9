#!/usr/bin/env bash
# Whether the server's memory stays flat: connections, files and answers of every kind come and go for an
# hour, at a rate that takes a few per cent of a core. See scripts/bench/README.md, "An hour of churn".
#
#   scripts/bench/churn.sh                   an hour, against the release build
#   scripts/bench/churn.sh --minutes 10      shorter; --help has all options
#   scripts/bench/churn.sh --server BIN      of this binary, instead of building the release
set -euo pipefail

BENCH=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd -- "$BENCH/../.." && pwd)

if [[ " $* " == *' --server'* || " $* " == *' --help '* || " $* " == *' -h '* ]]; then
    exec python3 "$BENCH/churn.py" "$@"
fi
cargo build --release --locked --manifest-path "$ROOT/Cargo.toml" --package tidegate >&2
exec python3 "$BENCH/churn.py" --server "${CARGO_TARGET_DIR:-$ROOT/target}/release/tidegate" "$@"
