# shellcheck shell=bash disable=SC2034  # one script in parts: names are used in others
# The servers: which there are, how each is started on one core, and how it is
# stopped. One runs at a time.

ALL_SERVERS=(
    tidegate tidegate-memory tidegate-arena nginx nginx-nosendfile nginx-aio lighttpd h2o nghttpd caddy static-web-server
    limit
)
# Those that are measured with TLS over HTTP/1.1: sendfile and the cache of open files are not what costs there.
TLS_SERVERS=(tidegate tidegate-memory nginx lighttpd h2o caddy)
# Those that are measured with HTTP/2. What nginx with aio threads differs in is cold files.
HTTP2_SERVERS=(tidegate tidegate-memory nginx nginx-8k nginx-nosendfile nginx-plain h2o nghttpd caddy)
# Those that send the variants of HttpArena's files to its client: others would send four times as many bytes.
ARENA_SERVERS=(tidegate tidegate-arena nginx nginx-nosendfile nginx-plain caddy)
# Not in a default run, but known to --servers.
EXTRA_SERVERS=(nginx-plain nginx-8k)

declare -A PORTS=(
    [tidegate]=8001 [nginx]=8002 [nginx-nosendfile]=8003 [nginx-aio]=8004
    [lighttpd]=8005 [h2o]=8006 [caddy]=8007 [static-web-server]=8008 [nginx-plain]=8009
    [tidegate-memory]=8010 [nghttpd]=8011 [nginx-8k]=8012 [tidegate-arena]=8013
    [limit]=8014
)

# nginx keeps files open, and what it knows of them, for a minute; also that there is none (404).
OPEN_FILES="open_file_cache max=10000 inactive=60s; open_file_cache_valid 60s; open_file_cache_errors on;"

# What the variants of a server differ in.
declare -A IO_LINES=(
    [tidegate-memory]='[io]\ninline-max = "1m"'
    # As arena/tidegate.toml: no bytes of files in memory.
    [tidegate-arena]='[io]\ninline-max = "0"'
    [nginx]="sendfile on; $OPEN_FILES"
    [nginx-8k]="sendfile on; $OPEN_FILES"
    [nginx-nosendfile]="sendfile off; $OPEN_FILES"
    [nginx-aio]="sendfile on; aio threads; $OPEN_FILES"
    [nginx-plain]="sendfile on;"
)

TIDEGATE_TLS_LINES='tls = true\n\n[[tls.certificates]]\ncert = "@RUN@/cert.pem"\nkey = "@RUN@/key.pem"'
NGINX_TLS_LINES=' ssl;\n        ssl_protocols TLSv1.2 TLSv1.3;\n        ssl_certificate @RUN@/cert.pem;\n        ssl_certificate_key @RUN@/key.pem'

# What a template says with TLS, on lines after @TLS@. The certificate is the same for all; make_certificate makes it.
declare -A TLS_LINES=(
    [tidegate]=$TIDEGATE_TLS_LINES
    [tidegate-memory]=$TIDEGATE_TLS_LINES
    [tidegate-arena]=$TIDEGATE_TLS_LINES
    [nginx]=$NGINX_TLS_LINES
    [nginx-8k]=$NGINX_TLS_LINES
    [nginx-nosendfile]=$NGINX_TLS_LINES
    [nginx-plain]=$NGINX_TLS_LINES
    [lighttpd]='server.modules += ( "mod_openssl" )\nssl.engine = "enable"\nssl.pemfile = "@RUN@/cert.pem"\nssl.privkey = "@RUN@/key.pem"'
    [h2o]="ssl:\n    certificate-file: @RUN@/cert.pem\n    key-file: @RUN@/key.pem\n    neverbleed: OFF"
    [caddy]="tls @RUN@/cert.pem @RUN@/key.pem"
)

# Whether Debian's module that sends .br files as they are is there for nginx.
BROTLI_MODULE=/usr/lib/nginx/modules/ngx_http_brotli_static_module.so

SERVER_PID=""
# Whether the server is started with TLS, and whether with HTTP/2.
SECURE=no
HTTP2=no

# Prints the path of a server's program, or nothing.
server_program() {
    case $1 in
        tidegate*) [[ ! -x $BUILT/tidegate ]] || echo "$BUILT/tidegate" ;;
        nginx*) find_program nginx ;;
        limit) [[ ! -x $RUN/limit ]] || echo "$RUN/limit" ;;
        static-web-server) find_program static-web-server "$SWS_ROOT/bin" ;;
        *) find_program "$1" ;;
    esac
}

# Makes the program of limit, where there is a compiler and liburing.
build_limit() {
    contains limit "${SERVERS[@]}" || return 0
    cc -O2 -o "$RUN/limit" "$BENCH/limit/limit.c" -luring 2>"$OUT/log/limit-build.log" ||
        warn "limit cannot be built (apt-get install gcc libc6-dev liburing-dev; see $OUT/log/limit-build.log)"
}

# Debian keeps some daemons in /usr/sbin, which need not be in PATH.
find_program() {
    PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin${2:+:$2}" type -P "$1" || true
}

server_version() {
    local program
    program=$(server_program "$1")
    case $1 in
        nginx*) "$program" -v 2>&1 | sed 's/^nginx version: //' ;;
        nghttpd) "$program" --version | sed -n 1p ;;
        lighttpd | h2o) "$program" -v 2>&1 | sed -n 1p ;;
        limit) echo "limit.c, $(cc --version | sed -n 1p)" ;;
        caddy) "$program" version | sed 's/^/caddy /' ;;
        static-web-server) "$program" --version | sed -n 's/^Version: */static-web-server /p' ;;
        *) "$program" --version | sed -n 1p ;;
    esac
}

# Fills in a template of peers/ (peers/http2/ for HTTP/2) for a server; prints the path
# of the result.
write_config() {
    local server=$1 template=$2 name=$1 folder="" scheme=http tls="" chunk=16k brotli="" brotli_static=""
    [[ $HTTP2 == no ]] || name+=-http2 folder=http2/
    if [[ $SECURE == yes ]]; then
        name+=-tls scheme=https tls=${TLS_LINES[$server]:-}
    fi
    if [[ -e $BROTLI_MODULE ]]; then
        brotli="load_module $BROTLI_MODULE;" brotli_static="brotli_static on;"
    fi
    [[ $server != nginx-8k ]] || chunk=8k
    local config="$OUT/config/$name.${template##*.}"
    sed -e "s|@TLS@|$tls|g" -e "s|@SCHEME@|$scheme|g" -e "s|@CPU@|$SERVER_CPU|g" \
        -e "s|@CHUNK@|$chunk|g" -e "s|@BROTLI@|$brotli|g" -e "s|@BROTLI_STATIC@|$brotli_static|g" \
        -e "s|@PORT@|${PORTS[$server]}|g" -e "s|@TREE@|$TREE|g" -e "s|@RUN@|$RUN|g" \
        -e "s|127\.0\.0\.1|$ADDRESS|g" -e "s|@IO@|${IO_LINES[$server]:-}|g" "$BENCH/peers/$folder$template" >"$config"
    echo "$config"
}

# Sets COMMAND to how a server is started in the foreground.
server_command() {
    local server=$1 program config
    program=$(server_program "$server")
    case $server in
        tidegate*)
            tidegate_command "$server" "$program"
            return
            ;;
        nghttpd)
            nghttpd_command "$program"
            return
            ;;
        limit)
            COMMAND=("$program" "${PORTS[limit]}" "$TREE"/*.bin)
            return
            ;;
        nginx*) config=$(write_config "$server" nginx.conf) ;;
        static-web-server) config=$(write_config "$server" static-web-server.toml) ;;
        *) config=$(write_config "$server" "$server.conf") ;;
    esac
    case $server in
        nginx*) COMMAND=("$program" -p "$RUN" -c "$config") ;;
        lighttpd) COMMAND=("$program" -D -f "$config") ;;
        h2o) COMMAND=("$program" -c "$config") ;;
        caddy) COMMAND=(env GOMAXPROCS=1 "HOME=$RUN" "$program" run --adapter caddyfile --config "$config") ;;
        static-web-server) COMMAND=("$program" --config-file "$config") ;;
    esac
}

tidegate_command() {
    local server=$1 program=$2
    case $server-$HTTP2-$SECURE in
        tidegate-no-no) COMMAND=("$program" serve "$TREE" --listen "$ADDRESS:${PORTS[$server]}" --cores "$SERVER_CPU-$SERVER_CPU") ;;
        *) COMMAND=("$program" run --config "$(write_config "$server" tidegate.toml)") ;;
    esac
}

nghttpd_command() {
    COMMAND=("$1" --address "$ADDRESS" --htdocs "$TREE" --workers 1 --max-concurrent-streams 128)
    if [[ $SECURE == yes ]]; then
        COMMAND+=("${PORTS[nghttpd]}" "$RUN/key.pem" "$RUN/cert.pem")
    else
        COMMAND+=(--no-tls "${PORTS[nghttpd]}")
    fi
}

# Starts a server pinned to its core, in cgroups made anew so that its counters
# begin at zero, and waits until it answers.
start_server() {
    local server=$1
    server_command "$server"
    make_cgroups
    (
        enter_cgroups
        export OPENSSL_CONF="$RUN/openssl.cnf"
        exec nsenter --net="/run/netns/$NETNS" -- taskset -c "$SERVER_CPU" "${COMMAND[@]}"
    ) >>"$OUT/log/$server.log" 2>&1 &
    SERVER_PID=$!
    if ! check_file "$server" 1k --wait 10; then
        tail -n 5 "$OUT/log/$server.log" >&2
        stop_server
        return 1
    fi
}

# check_file SERVER NAME OPTIONS...: whether a file comes as it is in the tree.
check_file() {
    local server=$1 name=$2
    shift 2
    if [[ $HTTP2 == yes ]]; then
        [[ $SECURE == no ]] || set -- "$@" --tls
        http2 check --server "$ADDRESS:${PORTS[$server]}" --path "/$name.bin" --file "$TREE/$name.bin" \
            "$@" >/dev/null
        return
    fi
    [[ $SECURE == no ]] || set -- "$@" --tls "$RUN/cert.pem"
    load check --server "$ADDRESS:${PORTS[$server]}" --path "/$name.bin" \
        --file "$TREE/$name.bin" "$@" >/dev/null
}

# HttpArena's files, as they are and with their variants.
check_arena() {
    local tls=()
    [[ $SECURE == no ]] || tls=(--tls)
    in_client_netns python3 "$BENCH/arena.py" --server "$ADDRESS:${PORTS[$1]}" --files "$TREE/static" "${tls[@]}" \
        >>"$OUT/log/$1.log"
}

# Whether what OpenSSL agrees on with a server is what every measurement is to use.
check_cipher() {
    in_client_netns env "OPENSSL_CONF=$RUN/openssl.cnf" openssl s_client -connect "$ADDRESS:${PORTS[$1]}" </dev/null 2>&1 |
        grep -q "TLSv1.3, Cipher is TLS_AES_128_GCM_SHA256" ||
        { warn "$1 does not use the one cipher" && return 1; }
}

# ECDSA on P-256, for localhost and its address (h2load names no host then), good as long as a run takes.
make_certificate() {
    write_openssl_config
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 2 \
        -subj /CN=localhost -addext "subjectAltName=DNS:localhost,IP:$ADDRESS" \
        -addext basicConstraints=critical,CA:FALSE \
        -keyout "$RUN/key.pem" -out "$RUN/cert.pem" 2>"$OUT/log/openssl.log" ||
        die "openssl made no certificate (see $OUT/log/openssl.log)"
}

# OpenSSL's settings, of servers and of clients: one version, one cipher, one key exchange.
write_openssl_config() {
    cat >"$RUN/openssl.cnf" <<END
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = pinned
[pinned]
MinProtocol = TLSv1.3
Ciphersuites = TLS_AES_128_GCM_SHA256
Groups = X25519:P-256
END
}

# Ends the server: TERM, and after three seconds KILL for what is left of it.
stop_server() {
    local pid attempt
    [[ -n $SERVER_PID ]] || return 0
    kill -TERM "$SERVER_PID" 2>/dev/null || true
    for attempt in {1..60}; do
        [[ -n $(cgroup_processes) ]] || break
        if [[ $attempt == 60 ]]; then
            for pid in $(cgroup_processes); do kill -KILL "$pid" 2>/dev/null || true; done
        fi
        sleep 0.05
    done
    wait "$SERVER_PID" 2>/dev/null || true
    SERVER_PID=""
    remove_cgroups
}
