#!/usr/bin/env bash
# The Debian package in a Debian 12 of its own (mmdebstrap, minbase) without systemd: installed, served from by the
# unit's command as the unit's user, upgraded to a package with another configuration, removed and purged. Checks
# users, files, modes, configuration and the unit's links; then lintian. Needs root, for the chroot and a
# network namespace; nothing of the host is changed. Half a minute, and one more for the first time.
#
#   scripts/package/test.sh [DEB]   without DEB: target/release-VERSION/tidegate_VERSION_ARCHITECTURE.deb
#                                   of this architecture, which scripts/release.sh makes
#   scripts/package/test.sh --server PROGRAM
#                                   a package that is made around this binary, in target/package
#
# Exits 0 or 1, 77 where root, a program or Debian's packages are missing.
# On Debian: apt-get install mmdebstrap curl iproute2, and lintian mandoc man-db zsh fish, whose checks are skipped
# without them.
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/../lib/help.sh"
# shellcheck source=scripts/lib/apart.sh
. "$(dirname "$0")/../lib/apart.sh"

skip() {
  echo "skipped: scripts/package/test.sh: $*"
  exit 77
}

((EUID == 0)) || skip 'needs root'
for tool in mmdebstrap curl ip unshare setpriv dpkg-deb; do
  command -v "$tool" >/dev/null || skip "$tool is not installed"
done
program=''
if [[ ${1:-} == --server ]]; then
  program=$(realpath "$2")
  shift 2
fi
deb=$(realpath -m "${1:-.}")
script=$(realpath "$0")
cd "$(dirname "$0")/../.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
(($# > 0)) || deb=$PWD/target/release-$version/tidegate_$version-1_$(dpkg --print-architecture).deb
if [[ -n $program ]]; then
  deb=$PWD/target/package/$(basename "$deb")
  scripts/release.sh --package "$program" target/package
fi
[[ -f $deb ]] || skip "there is no $deb (scripts/release.sh makes it)"

readonly BASE=$PWD/target/vm/debian-12.tar
readonly CONFIG=/etc/tidegate/tidegate.toml
readonly WANTED=/etc/systemd/system/multi-user.target.wants/tidegate.service

if [[ -z ${TEST_DIRECTORY:-} ]]; then
  if [[ ! -f $BASE ]]; then
    mkdir -p "$(dirname "$BASE")"
    made=$(mktemp "$BASE.XXXXXX")
    mmdebstrap --quiet --variant=minbase --include=adduser bookworm - >"$made" || {
      rm "$made"
      skip 'no Debian 12 to be had'
    }
    mv "$made" "$BASE"
  fi
  # All mounts, processes and ports are in namespaces that end before the directory is deleted. No directory of
  # the host is mounted there.
  TEST_DIRECTORY=$(mktemp -d)
  export TEST_DIRECTORY
  trap 'end_apart; rm -rf --one-file-system "$TEST_DIRECTORY"' EXIT
  apart --net "$script" "$deb"
  exit
fi
failures=0
work=$TEST_DIRECTORY
root=$work/root
server=

# check WHAT COMMAND...: reports whether the command succeeds.
check() {
  local what=$1
  shift
  if "$@" >"$work/output" 2>&1; then
    echo "ok      $what"
  else
    echo "FAILED  $what: $*"
    sed 's/^/        /' "$work/output"
    failures=$((failures + 1))
  fi
}

not() { ! "$@"; }
inside() { chroot "$root" env DEBIAN_FRONTEND=noninteractive "$@"; }
has() { grep -qF -- "$2" "$root$1"; }
# is MODE FILE: whether a file has this mode and is root's.
is() { [[ $(stat -c '%a %U:%G' "$root$2") == "$1 root:root" ]]; }
page() { curl -sS --max-time 10 "http://127.0.0.1:80$1"; }
serves() { page "$1" | grep -qF -- "$2"; }

# Starts what the unit starts, as its user and with its capability, as systemd does.
start() {
  local line waited=0
  rm -f "$work/log"
  line=$(sed -n 's/^ExecStart=//p' "$root/usr/lib/systemd/system/tidegate.service")
  # shellcheck disable=SC2016 # what systemd replaces
  line=${line/'${TIDEGATE_CONFIG}'/$CONFIG}
  # shellcheck disable=SC2086 # the words of a command
  chroot "$root" setpriv --reuid tidegate --regid tidegate --clear-groups --no-new-privs \
    --inh-caps=-all,+net_bind_service --ambient-caps=-all,+net_bind_service \
    --bounding-set=-all,+net_bind_service $line >"$work/log" 2>&1 &
  server=$!
  until grep -qs '^listening on' "$work/log"; do
    waited=$((waited + 1))
    if ! kill -0 "$server" 2>/dev/null || ((waited > 100)); then
      cat "$work/log"
      return 1
    fi
    sleep 0.1
  done
}

stop() {
  [[ -z $server ]] || { kill -TERM "$server" && wait "$server"; }
  server=
}

# The same package with a higher version and another default configuration.
successor() {
  dpkg-deb --raw-extract "$deb" "$work/next"
  sed -i "s/^Version: .*/Version: $version+next-1/" "$work/next/DEBIAN/control"
  echo '# of the next version' >>"$work/next$CONFIG"
  (cd "$work/next" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
  dpkg-deb --root-owner-group -Znone --build "$work/next" "$work/next.deb" >/dev/null
}

debian() {
  mkdir "$root"
  tar -C "$root" -xf "$BASE" --exclude './dev/*'
  mount -t proc proc "$root/proc"
  mount -t tmpfs -o mode=755 tmpfs "$root/dev"
  mknod -m 666 "$root/dev/null" c 1 3
  mknod -m 666 "$root/dev/zero" c 1 5
  mknod -m 666 "$root/dev/random" c 1 8
  mknod -m 666 "$root/dev/urandom" c 1 9
}

installed() {
  check 'is installed' inside dpkg --install /tidegate.deb
  check 'is complete and unchanged' not grep . <(inside dpkg --verify tidegate)
  check 'has a user without a shell' grep -q '^tidegate:.*:/nonexistent:/usr/sbin/nologin$' "$root/etc/passwd"
  check 'has a group' grep -q '^tidegate:' "$root/etc/group"
  check 'its binary runs' inside tidegate --version
  check 'its binary is in /usr/bin' is 755 /usr/bin/tidegate
  check 'its configuration is readable' is 644 "$CONFIG"
  check 'its configuration is right' inside tidegate check "$CONFIG"
  check 'its unit is enabled' test -L "$root$WANTED"
  check 'logs are rotated' is 644 /etc/logrotate.d/tidegate
  # minbase leaves manual pages and most of /usr/share/doc out.
  dpkg-deb --contents "$deb" >"$work/contents"
  for file in man/man1/tidegate.1.gz man/man1/tidegate-serve.1.gz man/man5/tidegate.toml.5.gz \
    bash-completion/completions/tidegate zsh/vendor-completions/_tidegate fish/vendor_completions.d/tidegate.fish \
    doc/tidegate/copyright doc/tidegate/changelog.Debian.gz doc/tidegate/LICENSES.gz \
    doc/tidegate/examples/tidegate.socket; do
    check "has $file" grep -q " \./usr/share/$file$" "$work/contents"
  done
  check 'has files of root only' not grep -vE ' (root/root|0/0) ' "$work/contents"
}

# with PROGRAM WHAT COMMAND...: a check, if the program is there.
with() {
  local program=$1
  shift
  if command -v "$program" >/dev/null; then
    check "$@"
  else
    echo "skipped: $1: $program is not installed"
  fi
}

# Whether man prints a page without a warning of its formatter.
formats() { [[ -z $(man --warnings --encoding=UTF-8 --local-file "$1" 2>&1 >/dev/null) ]]; }

readable() {
  local page share=$work/next/usr/share
  for page in "$share"/man/man?/*; do
    with mandoc "$(basename "$page") has no error" mandoc -T lint -W error "$page"
    with man "$(basename "$page") is formatted" formats "$page"
  done
  check 'bash reads its completions' bash --norc -c "source '$share/bash-completion/completions/tidegate'"
  with zsh 'zsh reads its completions' zsh -n "$share/zsh/vendor-completions/_tidegate"
  with fish 'fish reads its completions' fish --no-execute "$share/fish/vendor_completions.d/tidegate.fish"
}

served() {
  check 'the unit starts it' start
  check 'runs as its user' grep -qP "^Uid:\t$(inside id -u tidegate)\t" "$root/proc/$server/status"
  check 'serves its page' serves / 'tidegate is installed'
  check 'stops' stop
}

upgraded() {
  mkdir -p "$root/var/www/html"
  echo 'my page' >"$root/var/www/html/index.html"
  sed -i 's|^root = .*|root = "/var/www/html"|' "$root$CONFIG"
  check 'is upgraded' inside dpkg --force-confold --install /next.deb
  check 'is the next version' grep -qF '+next' <(inside dpkg-query -W tidegate)
  check 'keeps a changed configuration' has "$CONFIG" 'root = "/var/www/html"'
  check 'has the new one beside it' has "$CONFIG.dpkg-dist" '# of the next version'
  check 'the unit starts it again' start
  check 'serves what the configuration says' serves / 'my page'
  check 'stops again' stop
}

removed() {
  check 'is removed' inside dpkg --remove tidegate
  check 'has no binary' not test -e "$root/usr/bin/tidegate"
  check 'keeps its configuration' has "$CONFIG" 'root = "/var/www/html"'
  mkdir -p "$root/var/log/tidegate"
  check 'is purged' inside dpkg --purge tidegate
  check 'has no configuration' not test -e "$root/etc/tidegate"
  check 'has no logs' not test -e "$root/var/log/tidegate"
  check 'has no link of a unit' not test -e "$root$WANTED"
  check 'is unknown' not inside dpkg-query -W tidegate
  check 'leaves what is not its own' has /var/www/html/index.html 'my page'
}

ip link set lo up
debian
successor
cp "$deb" "$root/tidegate.deb"
cp "$work/next.deb" "$root/next.deb"
installed
readable
served
upgraded
removed
with lintian 'lintian has no errors' lintian --fail-on error --tag-display-limit 0 "$deb"
((failures == 0)) || {
  echo "FAILED: $failures"
  exit 1
}
echo "passed: $(basename "$deb")"
