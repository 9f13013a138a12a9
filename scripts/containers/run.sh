#!/usr/bin/env bash
# Checks what config/ has for containers: the manifests for Kubernetes against its schemas, the seccomp
# profile against the default one it is made from, and the image, built by the last stage of the
# Containerfile around a binary that is there already, and run with the profile and without io_uring.
# What is not installed is skipped with a line that says so. Works offline; needs root for the image.
#
#   scripts/containers/run.sh [BINARY]
#
#   BINARY    the server (target/release/tidegate); its libraries are copied into the image with it
#
# On Debian: apt-get install buildah podman runc curl jq golang-github-docker-docker-dev
# From PyPI, to be found in target/containers/bin:
#   python3 -m venv target/containers && target/containers/bin/pip install kubernetes-validate
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/../lib/help.sh"
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-$PWD/target}
binary=${1:-$target/release/tidegate}
PATH=$target/containers/bin:$PATH
readonly PROFILE=config/containers/seccomp.json
# Where Debian has Docker's.
readonly DEFAULT=/usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json

work=$(mktemp -d)
container=tidegate-$$
storage=(--storage-driver vfs --root "$work/storage" --runroot "$work/run")
engine=(podman "${storage[@]}" --runtime runc --cgroup-manager cgroupfs)

end() {
  "${engine[@]}" rm -f -t 1 "$container" &>/dev/null || true
  rm -rf "$work"
}

# has PROGRAM WHAT: whether it is installed; says what is skipped if not.
has() {
  command -v "$1" >/dev/null || {
    echo "skipped: $2: $1 is not installed"
    return 1
  }
}

manifests() {
  has kubernetes-validate 'the manifests' || return 0
  kubernetes-validate --strict --quiet config/kubernetes/*.yaml
  echo "ok: the manifests"
}

profile() {
  if [[ -e $DEFAULT ]]; then
    scripts/containers/profile.py "$DEFAULT" | diff - "$PROFILE"
    echo "ok: the profile is made from Docker's"
  else
    echo "skipped: the profile: there is no $DEFAULT"
  fi
}

# The files of the last stage: the binary, and the libraries that a static one would not need.
stage() {
  local library
  mkdir -p "$work/stage/image" "$work/empty" "$work/www"
  cp "$binary" "$work/stage/image/tidegate"
  for library in $(ldd "$binary" 2>/dev/null | grep -o '/[^ ]*'); do
    mkdir -p "$work/stage/image/$(dirname "$library")"
    cp -L "$library" "$work/stage/image/$library"
  done
  echo content >"$work/www/file"
}

# run NAME PROFILE: runs the image on port 0 of the host's loopback, as docs/containers.md does.
run() {
  "${engine[@]}" run --rm --name "$1" --network host --read-only --cap-drop all \
    --security-opt no-new-privileges --security-opt "seccomp=$2" \
    --ulimit nofile=4096:4096 --ulimit nproc=4096:4096 -v "$work/www:/srv/www:ro" \
    tidegate serve --listen 127.0.0.1:0 --cores 1 /srv/www
}

image() {
  local program
  for program in buildah podman runc curl jq; do
    has "$program" 'the image' || return 0
  done
  [[ -x $binary ]] || {
    echo "skipped: the image: there is no $binary"
    return 0
  }
  ((EUID == 0)) || {
    echo 'skipped: the image: needs root'
    return 0
  }
  stage
  # The build stage is replaced by the directory, so no base image is needed.
  buildah "${storage[@]}" bud --quiet --isolation chroot --build-context "build=$work/stage" \
    -f Containerfile -t tidegate "$work/empty" >/dev/null
  "${engine[@]}" inspect tidegate | jq -e '.[0].Config |
    .User == "65532:65532" and .StopSignal == "SIGTERM" and .Entrypoint == ["/tidegate"]' >/dev/null
  serves
  is_refused
}

serves() {
  local url='' tries
  run "$container" "$PROFILE" >"$work/log" 2>&1 &
  for ((tries = 0; tries < 100; tries++)); do
    url=$(sed -n 's/^listening on //p' "$work/log")
    [[ -z $url ]] || break
    sleep 0.1
  done
  [[ $(curl -sf "$url/file") == content ]] || {
    cat "$work/log"
    echo 'FAILED: the image does not serve'
    return 1
  }
  "${engine[@]}" stop -t 10 "$container" >/dev/null
  wait %%
  echo 'ok: the image serves with the profile, and stops at TERM with 0'
}

is_refused() {
  local status=0
  jq '(.syscalls[].names) |= map(select(startswith("io_uring") | not))' "$PROFILE" >"$work/default.json"
  run "$container" "$work/default.json" >"$work/log" 2>&1 || status=$?
  if ((status != 1)) || ! grep -q 'io_uring is forbidden here' "$work/log"; then
    cat "$work/log"
    echo "FAILED: exit status $status without io_uring"
    return 1
  fi
  echo 'ok: without io_uring it says so, and exits with 1'
}

trap end EXIT
manifests
profile
image
