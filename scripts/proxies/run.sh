#!/usr/bin/env bash
# Real proxies in front of the real binary: HAProxy, which speaks the PROXY protocol (versions 1 and 2)
# to TCP and Unix sockets, with TLS in front and behind, and names clients in X-Forwarded-For and
# Forwarded; nginx with X-Forwarded-For. Each check asks for a small and a large file as a client of its
# own address, and looks for that address in the access log. Prints a line for each; the exit status is
# 1 if a check failed, 77 if none could be made. A proxy that is not installed is skipped with a line that
# says so. All is on the loopback, in a temporary directory. Eight seconds.
#
#   scripts/proxies/run.sh [--server PROGRAM]     the binary to test (target/release/tidegate)
#
# On Debian: apt-get install haproxy nginx curl openssl python3
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/../lib/help.sh"
root=$(cd "$(dirname "$0")/../.." && pwd)
server="${CARGO_TARGET_DIR:-$root/target}/release/tidegate"
[[ ${1:-} != --server ]] || server=$2

has() {
  [[ -n $(type -P "$1") ]] || {
    echo "skipped: $1 is not installed (apt-get install $1)"
    return 1
  }
}

# Debian has proxies where a user's PATH does not.
PATH=$PATH:/usr/sbin:/sbin
for tool in curl openssl python3; do
  has $tool || exit 77
done

work=$(mktemp -d)
# What runs.
tidegate=''
proxy=''
cleanup() {
  # shellcheck disable=SC2086 # none, one or two
  [[ -z $proxy$tidegate ]] || kill $proxy $tidegate 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap cleanup EXIT

# Free ports, found all at once so that none is found twice.
mapfile -t port < <(python3 -c '
import socket
sockets = [socket.socket() for _ in range(12)]
for one in sockets: one.bind(("127.0.0.1", 0))
for one in sockets: print(one.getsockname()[1])')

mkdir "$work/www"
echo small >"$work/www/small"
head -c 20000000 /dev/urandom >"$work/www/large"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
  -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
cat "$work/cert.pem" "$work/key.pem" >"$work/both.pem"

# configuration HEADER: of a server with the address of each kind.
configuration() {
  cat <<END
[[listen]]
address = "127.0.0.1:${port[0]}"
proxy-protocol = "require"
[[listen]]
address = "127.0.0.1:${port[1]}"
proxy-protocol = "accept"
tls = true
[[listen]]
address = "unix:$work/tidegate.sock"
proxy-protocol = "accept"
[[listen]]
address = "127.0.0.1:${port[2]}"
[proxies]
trusted = ["127.0.0.1", "unix:"]
header = "$1"
[access-log]
path = "$work/log"
format = "\$remote_addr \$request_uri"
[[tls.certificates]]
cert = "$work/cert.pem"
key = "$work/key.pem"
[[site]]
root = "$work/www"
END
}

start() {
  configuration "$1" >"$work/tidegate.toml"
  : >"$work/log"
  : >"$work/out"
  "$server" run "$work/tidegate.toml" >"$work/out" 2>"$work/err" &
  tidegate=$!
  for _ in {1..100}; do
    ! grep -q "listening on unix:" "$work/out" || return 0
    sleep 0.1
  done
  cat "$work/err"
  exit 1
}

# Ends the proxy and the server.
stop() {
  kill "$proxy" "$tidegate"
  wait "$tidegate"
  wait "$proxy" || true
  proxy=''
  tidegate=''
}

haproxy_configuration() {
  local tcp="mode tcp" tls="ssl verify none"
  cat <<END
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen v1
  $tcp
  bind 127.0.0.1:${port[3]}
  server one 127.0.0.1:${port[0]} send-proxy check
listen v2
  $tcp
  bind 127.0.0.1:${port[4]}
  server one 127.0.0.1:${port[0]} send-proxy-v2 proxy-v2-options unique-id,crc32c check
listen unix-v2
  $tcp
  bind 127.0.0.1:${port[5]}
  server one unix@$work/tidegate.sock send-proxy-v2
listen tls-through
  $tcp
  bind 127.0.0.1:${port[6]}
  server one 127.0.0.1:${port[1]} send-proxy-v2
listen tls-both
  bind 127.0.0.1:${port[7]} ssl crt $work/both.pem
  server one 127.0.0.1:${port[1]} $tls send-proxy
listen unix-field
  bind 127.0.0.1:${port[8]} ssl crt $work/both.pem
  option forwardfor
  http-request set-header Forwarded "for=%[src];proto=https"
  server one unix@$work/tidegate.sock
listen field
  bind 127.0.0.1:${port[9]}
  option forwardfor
  http-request set-header Forwarded "for=\"%[src]:%[src_port]\""
  server one 127.0.0.1:${port[2]}
END
}

nginx_configuration() {
  # As the user of this script, who owns the socket.
  cat <<END
user $(id -un) $(id -gn);
daemon off;
pid $work/nginx.pid;
error_log $work/nginx.err;
events {}
http {
  access_log off;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header X-Forwarded-For \$proxy_add_x_forwarded_for;
  proxy_temp_path $work/temp;
  client_body_temp_path $work/temp;
  fastcgi_temp_path $work/temp;
  uwsgi_temp_path $work/temp;
  scgi_temp_path $work/temp;
  upstream unix { server unix:$work/tidegate.sock; keepalive 4; }
  server {
    listen 127.0.0.1:${port[10]};
    location / { proxy_pass http://unix; }
  }
  server {
    listen 127.0.0.1:${port[11]};
    location / { proxy_pass https://127.0.0.1:${port[1]}; }
  }
}
END
}

failures=0
number=0

# check NAME URL: both files through the proxy, by a client that also claims another address.
check() {
  number=$((number + 1))
  local client="127.1.2.$number" file url
  for file in small large; do
    url="$2/$file?$number"
    curl --silent --show-error --fail --insecure --max-time 60 --interface "$client" \
      --header "X-Forwarded-For: 6.6.6.6" --header "Forwarded: for=6.6.6.6" \
      --output "$work/got" "$url" || true
    if ! cmp -s "$work/got" "$work/www/$file"; then
      echo "FAILED $1: $file differs"
      failures=$((failures + 1))
      return
    fi
    rm "$work/got"
  done
  for _ in {1..50}; do
    [[ $(grep -c "^$client /[a-z]*?$number\$" "$work/log") != 2 ]] || {
      echo "ok     $1"
      return
    }
    sleep 0.1
  done
  echo "FAILED $1: the log has $(grep "?$number\$" "$work/log" | tr '\n' ';')"
  failures=$((failures + 1))
}

# run NAME PORT: starts the proxy whose command line follows, and waits for its port.
run() {
  local at=$2 name=$1
  shift 2
  "$@" >"$work/$name.log" 2>&1 &
  proxy=$!
  for _ in {1..100}; do
    ! (: <"/dev/tcp/127.0.0.1/$at") 2>/dev/null || return 0
    sleep 0.1
  done
  cat "$work/$name.log"
  exit 1
}

for field in x-forwarded-for forwarded; do
  has haproxy || break
  start "$field"
  haproxy_configuration >"$work/haproxy.cfg"
  run haproxy "${port[9]}" haproxy -f "$work/haproxy.cfg" -db
  at=127.0.0.1
  if [[ $field == x-forwarded-for ]]; then
    # Their client's own claims are in the requests, from an address that is not trusted.
    check "HAProxy, PROXY version 1" "http://$at:${port[3]}"
    check "HAProxy, PROXY version 2 with TLVs" "http://$at:${port[4]}"
    check "HAProxy, PROXY version 2 to a Unix socket" "http://$at:${port[5]}"
    check "HAProxy, PROXY version 2 before TLS of the client" "https://$at:${port[6]}"
    check "HAProxy, TLS in front and behind, PROXY version 1" "https://$at:${port[7]}"
  fi
  check "HAProxy, $field, TLS in front, to a Unix socket" "https://$at:${port[8]}"
  check "HAProxy, $field" "http://$at:${port[9]}"
  stop
done
if has nginx; then
  start x-forwarded-for
  nginx_configuration >"$work/nginx.conf"
  run nginx "${port[10]}" nginx -c "$work/nginx.conf"
  check "nginx, X-Forwarded-For to a Unix socket" "http://127.0.0.1:${port[10]}"
  check "nginx, X-Forwarded-For, TLS behind" "http://127.0.0.1:${port[11]}"
  stop
fi
if grep -qs panicked "$work/err"; then
  cat "$work/err"
  exit 1
fi
((number > 0)) || exit 77
((failures == 0))
