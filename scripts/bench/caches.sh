#!/usr/bin/env bash
# Starts one cache in front of an HTTP origin, in the foreground, for scripts/bench/ab.py: tidegate, or a peer at its
# best setting.
#
#   scripts/bench/caches.sh NAME PORT ORIGIN [BINARY]
#
# NAME      tidegate, nginx, varnish, ats (Apache Traffic Server); or origin: nginx that serves the directory ORIGIN
# PORT      where it listens, on 127.0.0.1
# ORIGIN    HOST:PORT of the origin
# BINARY    that of tidegate; default: target/release/tidegate
#
#   scripts/bench/netns.sh bash            # the origin has to be in the namespace, too
#   scripts/bench/caches.sh origin 8800 "$TREE" &
#   scripts/bench/ab.py --tree "$TREE" --path /1k.bin --warm-rounds 1 \
#     "file=$PWD/target/release/tidegate serve {tree} --listen 127.0.0.1:{port} --cores 0-0" \
#     "tidegate=$PWD/scripts/bench/caches.sh tidegate {port} 127.0.0.1:8800" \
#     "nginx=$PWD/scripts/bench/caches.sh nginx {port} 127.0.0.1:8800"
#
# ATS_VIA=2 has Traffic Server tell in Via where a response came from: "cRs" is from memory, "cHs" from its disk.
#
# What each keeps is in a directory of its own below TMPDIR, which stays. All run on one core, as ab.py starts them.
set -euo pipefail

name=$1 port=$2 origin=$3
binary=${4:-$(dirname "$0")/../../target/release/tidegate}
directory=$(mktemp -d "${TMPDIR:-/tmp}/cache-$name-XXXXXX")
chmod 755 "$directory"
cd "$directory"

nginx_config() {
  cat <<EOF
daemon off; worker_processes 1; pid $directory/pid; error_log stderr error; user root;
events { worker_connections 16384; multi_accept on; }
http {
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; open_file_cache max=10000;
  open_file_cache_valid 60s; client_body_temp_path $directory/b; proxy_temp_path $directory/p;
  fastcgi_temp_path $directory/f; uwsgi_temp_path $directory/u; scgi_temp_path $directory/s;
$1
}
EOF
}

case $name in
  tidegate)
    binary=$(realpath "$binary" 2>/dev/null || echo "$binary")
    cat >tidegate.toml <<EOF
[server]
cores = "0-0"
[[listen]]
address = "127.0.0.1:$port"
[cache.disk]
path = "$directory/cache"
size = "8g"
[[site]]
origin = { http = "http://$origin" }
precompressed = []
[[site.cache]]
match = "/**"
ttl = "1h"
EOF
    exec "$binary" run --config tidegate.toml
    ;;
  nginx)
    # Slices as tidegate has them; the cache is looked up in shared memory, and files are sent by sendfile. Connections
    # to the origin are kept, which a miss is faster by.
    nginx_config "
  upstream origin { server $origin; keepalive 64; }
  proxy_cache_path $directory/cache levels=1:2 keys_zone=c:64m max_size=8g use_temp_path=off;
  server {
    listen 127.0.0.1:$port reuseport;
    location / {
      slice 4m; proxy_cache c; proxy_cache_key \$uri\$slice_range; proxy_set_header Range \$slice_range;
      proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $origin;
      proxy_cache_valid 200 206 1h; proxy_cache_lock on; proxy_pass http://origin;
    }
  }" >nginx.conf
    exec nginx -p "$directory" -c "$directory/nginx.conf"
    ;;
  varnish)
    cat >v.vcl <<EOF
vcl 4.1;
backend default { .host = "${origin%:*}"; .port = "${origin#*:}"; }
sub vcl_backend_response { set beresp.ttl = 1h; }
EOF
    exec varnishd -F -n "$directory/n" -a "127.0.0.1:$port" -f "$directory/v.vcl" -s malloc,2g \
      -p thread_pools=1 -p thread_pool_min=200
    ;;
  ats)
    # A net thread and no accept thread, as the others have one worker; all that is asked for fits into its RAM cache.
    mkdir etc log run disk
    cat >runroot.yaml <<EOF
prefix: $directory
exec_prefix: $directory
bindir: /usr/bin
sbindir: /usr/bin
libexecdir: /usr/lib/trafficserver/modules
sysconfdir: $directory/etc
datadir: $directory/disk
localstatedir: $directory/run
runtimedir: $directory/run
logdir: $directory/log
cachedir: $directory/disk
EOF
    cat >etc/records.config <<EOF
CONFIG proxy.config.http.server_ports STRING $port:ip-in=127.0.0.1
CONFIG proxy.config.admin.user_id STRING trafficserver
CONFIG proxy.config.exec_thread.autoconfig INT 0
CONFIG proxy.config.exec_thread.limit INT 1
CONFIG proxy.config.exec_thread.affinity INT 0
CONFIG proxy.config.accept_threads INT 0
CONFIG proxy.config.task_threads INT 1
CONFIG proxy.config.log.logging_enabled INT 0
CONFIG proxy.config.http.insert_request_via_str INT 0
CONFIG proxy.config.http.insert_response_via_str INT ${ATS_VIA:-0}
CONFIG proxy.config.cache.ram_cache.size INT 2147483648
CONFIG proxy.config.cache.ram_cache_cutoff INT 1073741824
EOF
    echo 'ip_allow: [{ apply: in, ip_addrs: 127.0.0.1, action: allow, methods: ALL }]' >etc/ip_allow.yaml
    echo "map / http://$origin/" >etc/remap.config
    echo "$directory/disk 8G" >etc/storage.config
    echo 'dest_domain=. ttl-in-cache=1h' >etc/cache.config
    # It refuses to run as root, and changes to its user.
    chown -R trafficserver "$directory"
    exec traffic_server --run-root="$directory"
    ;;
  origin)
    nginx_config "  server { listen 127.0.0.1:$port; root $origin; }" >nginx.conf
    exec nginx -p "$directory" -c "$directory/nginx.conf"
    ;;
  *)
    echo "caches.sh: there is no cache $name" >&2
    exit 2
    ;;
esac
