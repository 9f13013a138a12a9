#!/usr/bin/env bash
# Makes everything of a release from this tree: for each target an archive (binary, manual pages, completions,
# examples, licences), a Debian package and the symbols of the binary; the bill of materials (CycloneDX); and
# SHA256SUMS. docs/packages.md says what is in them and why.
#
#   scripts/release.sh [--target TARGET]... [DIR]      into DIR (target/release-VERSION)
#   scripts/release.sh --check-reproducible [--target TARGET]...
#                      makes it, and again from a clone in another directory, and compares
#   scripts/release.sh --package BINARY [DIR]
#                      the Debian package alone, around a binary of this host that is built already: to be tried,
#                      not to be published. Five seconds, and half a minute for the first time
#
# TARGET: x86_64-unknown-linux-gnu and aarch64-unknown-linux-gnu; without one, both.
# What is built depends on the commit and the compilers alone: not on the directory, the time or the user.
#
# Takes about a quarter of an hour on two cores. On Debian 12, for an x86-64 host: apt-get install
# build-essential gcc-aarch64-linux-gnu dpkg-dev. Rust's targets are added by rustup. The tools below are installed
# by cargo into target/tools.
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/lib/help.sh"
cd "$(dirname "$0")/.."
ROOT=$PWD
readonly ROOT

readonly CARGO_DEB=3.8.0
readonly CARGO_CYCLONEDX=0.5.9
readonly TARGETS=(x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu)
readonly BUILD=${CARGO_TARGET_DIR:-$ROOT/target}
# What the packages are made from; crates/tidegate/Cargo.toml names it.
readonly STAGE=$ROOT/target/stage
# Built where no one looks for the binaries of a clone.
readonly TOOLS=${TIDEGATE_TOOLS:-$ROOT/target/tools}

die() {
  echo "release.sh: $*" >&2
  exit 1
}

need() {
  command -v "$1" >/dev/null || die "$1 is not installed (apt-get install $2)"
}

# tool NAME VERSION: installs a subcommand of cargo, if it is not there in this version.
tool() {
  if ! grep -qsF "\"$1 $2 " "$TOOLS/.crates.toml"; then
    CARGO_TARGET_DIR=$BUILD/tools-build cargo install --quiet --locked --debug --root "$TOOLS" "$1@$2"
  fi
}

# Sets what compiles for a target: C by its compiler, with paths of the build replaced. The names of files are in
# panics and in symbols for debuggers.
compilers() {
  local variable=${1//-/_} cargo_home=${CARGO_HOME:-$HOME/.cargo} from c=''
  # The last that fits is used: the build may be below the root.
  local -A names=(["$ROOT"]=/tidegate ["$BUILD"]=/build ["$cargo_home"]=/cargo)
  RUSTFLAGS=''
  for from in "$ROOT" "$BUILD" "$cargo_home"; do
    RUSTFLAGS+=" --remap-path-prefix=$from=${names[$from]}"
    c+=" -ffile-prefix-map=$from=${names[$from]}"
  done
  OBJCOPY=objcopy
  case $1 in
    x86_64-unknown-linux-gnu) ;;
    aarch64-unknown-linux-gnu)
      need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
      export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
      export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
      # Kernels for arm64 have pages of 4, 16 or 64 KiB: memory is managed in the largest.
      export JEMALLOC_SYS_WITH_LG_PAGE=16
      OBJCOPY=aarch64-linux-gnu-objcopy
      ;;
    *) die "no such target: $1 (there are: ${TARGETS[*]})" ;;
  esac
  export RUSTFLAGS "CFLAGS_$variable=$c"
}

# build TARGET: the binary without symbols, and the symbols, in the stage. In a process of its own, which ends with
# the settings.
build() (
  rustup --quiet target add "$1"
  compilers "$1"
  cargo build --locked --profile dist -p tidegate --target "$1"
  built=$BUILD/$1/dist/tidegate
  symbols=$STAGE/tidegate.debug
  "$OBJCOPY" --only-keep-debug --compress-debug-sections "$built" "$symbols"
  "$OBJCOPY" --strip-all --remove-section .comment --add-gnu-debuglink="$symbols" "$built" "$STAGE/tidegate"
)

# What is the same for all targets: manual pages and completions, by a binary that runs here, and examples.
documents() {
  local program=$STAGE/tidegate
  [[ ! -d $STAGE/man ]] || return 0
  if ! "$program" --version >/dev/null 2>&1; then
    cargo build --locked -p tidegate --no-default-features
    program=$BUILD/debug/tidegate
  fi
  "$program" generate man "$STAGE/man"
  "$program" generate completions "$STAGE/completions"
  gzip -9n "$STAGE"/man/*
  mkdir -p "$STAGE/units" "$STAGE/examples"
  cp config/systemd/tidegate.service "$STAGE/units"
  cp -r config/*.toml config/examples/* config/systemd/tidegate.socket config/sysctl.d "$STAGE/examples"
  cat >"$STAGE/changelog" <<END
tidegate ($version-1) stable; urgency=medium

  * See /usr/share/doc/tidegate/CHANGELOG.md.gz.

 -- tidegate maintainers <tidegate@packages.example>  $(date -R -u -d "@$SOURCE_DATE_EPOCH")
END
}

# Puts the files of the stage under their names in an archive.
archive() {
  local name=tidegate-$version-${1%%-*}-linux
  local top=$STAGE/$name
  mkdir -p "$top"
  cp -r "$STAGE"/{tidegate,man,completions,examples,LICENSES} README.md CHANGELOG.md LICENSE-* docs "$top"
  cp -r config/systemd config/logrotate "$top/examples"
  tar --directory "$STAGE" --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mode=u+w,go-w \
    --mtime="@$SOURCE_DATE_EPOCH" --create "$name" | gzip -9n >"$out/$name.tar.gz"
  cp "$STAGE/tidegate.debug" "$out/$name.debug"
  rm -r "$top"
}

# package TARGET OPTION...: the Debian package of what is in the stage.
package() {
  PATH=$TOOLS/bin:$PATH cargo deb --quiet --locked --no-build --no-strip -p tidegate --target "$1" \
    --deb-version "$version-1" --output "$out/" "${@:2}"
}

# materials TARGET: the bill of materials of what is linked into the binary.
materials() {
  local name=tidegate-$version-${1%%-*}-linux.cdx
  PATH=$TOOLS/bin:$PATH cargo cyclonedx --quiet --manifest-path crates/tidegate/Cargo.toml --format json \
    --spec-version 1.5 --target "$1" --override-filename "$name"
  find crates scripts -name "$name.json" ! -path 'crates/tidegate/*' -delete
  # Without what two runs differ by: a random number, and the directory.
  python3 - "crates/tidegate/$name.json" "$out/$name.json" "$ROOT" <<'END'
import json, sys
made, wanted, root = sys.argv[1:]
with open(made) as file:
    bill = json.loads(file.read().replace(f"file://{root}/", "file:///tidegate/"))
bill.pop("serialNumber", None)
with open(wanted, "w") as file:
    json.dump(bill, file, indent=1, sort_keys=True)
END
  rm "crates/tidegate/$name.json"
}

make_release() {
  local target
  mkdir -p "$out" "$STAGE"
  for target in "${targets[@]}"; do
    build "$target"
    documents
    scripts/package/licenses.py "$target" >"$STAGE/LICENSES"
    gzip -9nkf "$STAGE/LICENSES"
    archive "$target"
    package "$target"
    materials "$target"
  done
  (cd "$out" && sha256sum -- *.tar.gz *.deb *.debug *.json >SHA256SUMS)
  ls -l "$out"
}

# The package alone, around a binary that is there.
make_package() {
  local target
  target=$(rustc -vV | sed -n 's/^host: //p')
  mkdir -p "$out" "$STAGE"
  need objcopy binutils
  objcopy --strip-all "$binary" "$STAGE/tidegate"
  documents
  scripts/package/licenses.py "$target" | gzip -9n >"$STAGE/LICENSES.gz"
  package "$target" --fast
}

# Makes the release of a clone of this commit, and compares.
check_reproducible() {
  local clone same=0
  [[ -z $(git status --porcelain) ]] || die '--check-reproducible compares with a clone: commit first'
  clone=$(mktemp -d)
  # shellcheck disable=SC2064 # the path of now
  trap "rm -rf '$clone'" EXIT
  git clone --quiet . "$clone/other"
  CARGO_TARGET_DIR=$clone/build TIDEGATE_TOOLS=$TOOLS \
    "$clone/other/scripts/release.sh" "${targets[@]/#/--target=}" "$clone/out"
  diff "$out/SHA256SUMS" "$clone/out/SHA256SUMS" || same=1
  ((same == 0)) || die 'the two differ'
  echo "reproducible: $(wc -l <"$out/SHA256SUMS") files are the same from two directories"
}

[[ $ROOT$BUILD != *' '* ]] || die 'the directories have a space, which flags of compilers cannot have'
out='' check='' binary='' targets=()
while (($# > 0)); do
  case $1 in
    --check-reproducible) check=yes ;;
    --package)
      binary=${2:?--package needs a binary}
      shift
      ;;
    --target=*) targets+=("${1#*=}") ;;
    --target)
      targets+=("${2:?--target needs a value}")
      shift
      ;;
    -*) die "there is no option $1 (--help has the usage)" ;;
    *) out=$1 ;;
  esac
  shift
done
((${#targets[@]} > 0)) || targets=("${TARGETS[@]}")
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
out=$(realpath -m "${out:-target/release-$version}")
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH LC_ALL=C.UTF-8 TZ=UTC
umask 022

need dpkg dpkg-dev
tool cargo-deb "$CARGO_DEB"
rm -rf "$STAGE"
if [[ -n $binary ]]; then
  make_package
  exit
fi
tool cargo-cyclonedx "$CARGO_CYCLONEDX"
make_release
[[ -z $check ]] || check_reproducible
