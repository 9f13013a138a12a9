#!/usr/bin/env bash
# Checks what config/ has for containers: the manifests for Kubernetes against its schemas, the seccomp
# profile against the default one it is made from, and the image, built by the last stage of the
# Containerfile around a binary that is there already, and run with the profile and without io_uring. The image
# of arena/ is built in the same way, and serves files on both of its ports.
# What is not installed is skipped with a line that says so; the exit status is 77 if nothing could be
# checked. Works offline; needs root for the image. Five seconds.
#
#   scripts/containers/run.sh [--server PROGRAM]
#
#   --server PROGRAM   the binary (target/release/tidegate); its libraries are copied into the image with it
#
# On Debian: apt-get install buildah podman runc curl jq iproute2 openssl python3-venv
# From PyPI, to be found in target/containers/bin:
#   python3 -m venv target/containers && target/containers/bin/pip install kubernetes-validate
# Docker's default profile is looked for where golang-github-docker-docker-dev has it, and as
# target/containers/default.json: the package wants a gigabyte of others (.ci/run takes the file alone).
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/../lib/help.sh"
# shellcheck source=scripts/lib/apart.sh
. "$(dirname "$0")/../lib/apart.sh"
script=$(realpath "$0")
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-$PWD/target}
binary=$target/release/tidegate
[[ ${1:-} != --server ]] || binary=$2
PATH=$target/containers/bin:$PATH
readonly PROFILE=config/containers/seccomp.json
# Where Docker's may be.
readonly DEFAULTS=(/usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json
  "$target/containers/default.json")

# The exit status: 77 until something is checked.
status=77
# Set where this script calls itself, in namespaces of its own.
work=${TIDEGATE_IMAGE_DIRECTORY:-}
container=$(basename "$work")
storage=(--storage-driver vfs --root "$work/storage" --runroot "$work/run")
engine=(podman "${storage[@]}" --runtime runc --cgroup-manager cgroupfs)

end() {
  end_apart
  find /sys/fs/cgroup -depth -type d -path "*/$(basename "$work")*" -exec rmdir {} + || true
  rm -rf --one-file-system "$work"
}

ok() {
  echo "ok: $1"
  status=0
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
  kubernetes-validate --strict --quiet config/kubernetes/*.yaml config/kubernetes/fleet/*.yaml
  ok 'the manifests'
}

profile() {
  local default
  for default in "${DEFAULTS[@]}"; do
    [[ -e $default ]] || continue
    scripts/containers/profile.py "$default" | diff - "$PROFILE"
    ok "the profile is made from Docker's"
    return
  done
  echo "skipped: the profile: there is no ${DEFAULTS[0]}"
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
  "${engine[@]}" run --rm --name "$1" --cgroup-parent "/$container" --cgroups no-conmon --pids-limit -1 \
    --network host --read-only --cap-drop all \
    --security-opt no-new-privileges --security-opt "seccomp=$2" \
    --ulimit nofile=4096:4096 --ulimit nproc=4096:4096 -v "$work/www:/srv/www:ro" \
    tidegate serve --listen 127.0.0.1:0 --cores 1 /srv/www
}

# The image, from namespaces of its own: what builds and runs it, and its mounts, end with them.
image() {
  local program image=0
  for program in buildah podman runc curl jq ip openssl; do
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
  work=$(mktemp --directory --tmpdir tidegate-image-XXXXXX)
  trap end EXIT
  TIDEGATE_IMAGE_DIRECTORY=$work apart --net "$script" --server "$binary" || image=$?
  ((image == 77)) || status=$image
}

builds_and_serves() {
  ip link set lo up
  stage
  # The build stage is replaced by the directory, so no base image is needed.
  buildah "${storage[@]}" bud --quiet --isolation chroot --build-context "build=$work/stage" \
    -f Containerfile -t tidegate "$work/empty" >/dev/null
  "${engine[@]}" inspect tidegate | jq -e '.[0].Config |
    .User == "65532:65532" and .StopSignal == "SIGTERM" and .Entrypoint == ["/tidegate"]' >/dev/null
  serves
  is_refused
  arena
}

serves() {
  local url='' tries
  # The file is read below before the process in the background may have made it.
  : >"$work/log"
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
  ok 'the image serves with the profile, and stops at TERM with 0'
}

is_refused() {
  local refused=0
  jq '(.syscalls[].names) |= map(select(startswith("io_uring") | not))' "$PROFILE" >"$work/default.json"
  run "$container" "$work/default.json" >"$work/log" 2>&1 || refused=$?
  if ((refused != 1)) || ! grep -q 'io_uring is forbidden here' "$work/log"; then
    cat "$work/log"
    echo "FAILED: exit status $refused without io_uring"
    return 1
  fi
  ok 'without io_uring it says so, and exits with 1'
}

# HttpArena's entry, run as HttpArena runs it but for limits that it may raise, with files of our own.
arena() {
  local name failed=0
  buildah "${storage[@]}" bud --quiet --isolation chroot --build-context "build=$work/stage" -f arena/Dockerfile \
    -t httparena-tidegate arena >/dev/null
  mkdir -p "$work/static" "$work/certs"
  for name in hero.webp app.js app.js.br app.js.gz; do
    head -c 50000 /dev/urandom >"$work/static/$name"
  done
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 60 -subj /CN=localhost \
    -keyout "$work/certs/server.key" -out "$work/certs/server.crt" 2>/dev/null
  : >"$work/log"
  "${engine[@]}" run --rm --name "$container" --cgroup-parent "/$container" --cgroups no-conmon --pids-limit -1 \
    --network host --security-opt seccomp=unconfined --ulimit nofile=4096:4096 --ulimit nproc=4096:4096 \
    -v "$work/static:/data/static:ro" -v "$work/certs:/certs:ro" httparena-tidegate >"$work/log" 2>&1 &
  timeout 10 sh -c "until [ \$(grep -c '^listening on ' '$work/log') = 2 ]; do sleep 0.1; done" || failed=1
  scripts/bench/arena.py --server 127.0.0.1:8080 --files "$work/static" || failed=1
  scripts/bench/arena.py --server 127.0.0.1:8443 --files "$work/static" --tls || failed=1
  ((failed == 0)) || {
    cat "$work/log"
    echo "FAILED: the image of arena/ does not serve"
    return 1
  }
  "${engine[@]}" stop -t 10 "$container" >/dev/null
  wait %%
  ok 'the image of arena/ serves on both ports'
}

if [[ -n $work ]]; then
  builds_and_serves
  exit
fi
manifests
profile
image
((status == 0)) || exit $status
