#!/usr/bin/env bash
# For scripts/systemd/run.sh: runs within its systemd.
set -uo pipefail
cd /mnt/tidegate || exit 1

note() {
  echo "$1" >> result
}

finish() {
  note "$1"
  systemctl status tidegate.service tidegate.socket
  # Ends the systemd, and with it the namespaces.
  systemctl exit 0
  sleep infinity
}

# check WHAT COMMAND...
check() {
  local what=$1
  shift
  if "$@"; then
    note "ok: $what"
  else
    finish "failed: $what"
  fi
}

get() {
  [[ $(curl -sS --max-time 10 "http://$1/file") == content ]]
}

fails() {
  ! "$@"
}

property() {
  systemctl show -P "$1" tidegate.service
}

is() {
  [[ $(property "$1") == "$2" ]]
}

# eventually COMMAND...
eventually() {
  local try
  for try in {1..100}; do
    "$@" && return
    sleep 0.1
  done
  echo "never, in $try tries: $*"
  return 1
}

changed() {
  [[ $(property MainPID) != "$1" ]]
}

config() {
  cat > tidegate.toml <<END
[server]
cores = 1
graceful-timeout = "5s"
[[listen]]
address = "0.0.0.0:80"
$1
[[site]]
root = "/mnt/www"
END
}

config ''
check 'starts and is ready' systemctl start tidegate.service
check 'serves port 80' get 127.0.0.1:80
user=$(stat -c %U "/proc/$(property MainPID)")
check 'is not root' test "$user" != root
check 'says its status' is StatusText Serving
check 'is fed by the watchdog' is WatchdogUSec 1min
config $'[[listen]]\naddress = "127.0.0.1:8080"'
check 'reloads' systemctl reload tidegate.service
check 'serves what the reload added' eventually get 127.0.0.1:8080
config $'[[listen]]\naddress = "127.0.0.1:8080"\nbacklogg = 1'
check 'refuses to reload a wrong configuration' fails systemctl reload tidegate.service
check 'says why' grep -q 'tidegate.toml:.*backlogg' journal
check 'is active after that' is ActiveState active
check 'serves as before' get 127.0.0.1:8080
config $'[[listen]]\naddress = "127.0.0.1:8080"'
before=$(property MainPID)
check 'takes USR2' systemctl kill --kill-who=main --signal=USR2 tidegate.service
check 'has a new main process' eventually changed "$before"
check 'serves after the upgrade' get 127.0.0.1:80
check 'is still active' is ActiveState active
check 'ends the old process' eventually test ! -e "/proc/$before"
check 'has no restart' is NRestarts 0
kill -ABRT "$(property MainPID)"
check 'starts again after a crash' eventually is NRestarts 1
check 'serves after a crash' eventually get 127.0.0.1:80
check 'stops' systemctl stop tidegate.service
check 'has stopped well' is Result success

config $'[[listen]]\naddress = "[::]:80"'
check 'has sockets' systemctl start tidegate.socket
check 'is started by a client' get 127.0.0.1:80
check 'serves the other socket' get '[::1]:80'
check 'restarts' systemctl restart tidegate.service
check 'serves after a restart' get 127.0.0.1:80
before=$(property MainPID)
check 'takes USR2 with sockets' systemctl kill --kill-who=main --signal=USR2 tidegate.service
check 'has a new main process with sockets' eventually changed "$before"
check 'serves after the upgrade with sockets' get 127.0.0.1:80
check 'stops with sockets' systemctl stop tidegate.service tidegate.socket
finish 'all is well'
