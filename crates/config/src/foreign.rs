//! Keys of other servers, and tidegate's equivalents.
//!
//! The keys are those of nginx, Apache, lighttpd, H2O, Caddy and static-web-server. A test checks
//! that none is a key of tidegate, too.

/// Keys of other servers with the advice for them.
pub(crate) struct Row {
    /// The tables that it applies to, separated by spaces: dotted names, `-` for the root. Empty:
    /// any.
    tables: &'static str,
    /// In the form of [`squash`], separated by spaces.
    keys: &'static str,
    /// The dotted key of tidegate that replaces it, or empty.
    pub(crate) meant: &'static str,
    /// The advice: what to write, or that tidegate has no equivalent.
    pub(crate) says: &'static str,
}

/// The row for `key` in the table with this dotted name.
pub(crate) fn find(table: &str, key: &str) -> Option<&'static Row> {
    let table = if table.is_empty() { "-" } else { table };
    let key = squash(key);
    let mut rows = ROWS.iter().filter(|row| row.is_for(table) && row.has(&key));
    let for_any = rows.clone().next();
    rows.find(|row| !row.tables.is_empty()).or(for_any)
}

/// A key in lower case without `-`, `_` and `.`: `server_name` and `serverName` are equal then.
pub(crate) fn squash(key: &str) -> String {
    let letters = key.chars().filter(|char| !matches!(char, '-' | '_' | '.'));
    letters.flat_map(char::to_lowercase).collect()
}

impl Row {
    fn is_for(&self, table: &str) -> bool {
        self.tables.is_empty() || self.tables.split(' ').any(|known| known == table)
    }

    fn has(&self, key: &str) -> bool {
        self.keys.split(' ').any(|known| known == key)
    }
}

const fn row(
    tables: &'static str,
    keys: &'static str,
    meant: &'static str,
    says: &'static str,
) -> Row {
    Row {
        tables,
        keys,
        meant,
        says,
    }
}

/// The first row that fits is used; rows for certain tables come before rows for any.
#[rustfmt::skip] // a row a line
const ROWS: &[Row] = &[
    // Listeners.
    row("listen", "port ports host hostname ip bind interface addr listen socketaddress", "listen.address",
        "write host and port into address = \"0.0.0.0:8080\""),
    row("listen", "ssl https secure tlsenabled sslengine", "listen.tls", "write tls = true"),
    row("listen", "ipv6only v6only onlyipv6", "listen.only-v6", "write only-v6 = true"),
    row("admin", "port ports host hostname ip bind interface addr address listenaddress socketaddress", "admin.listen",
        "write host and port into listen = \"127.0.0.1:9900\""),
    row("admin", "path metricspath healthpath endpoint", "", "the paths are /healthz, /readyz and /metrics"),
    row("listen", "redirect redirecthttps forcehttps httpsport", "listen.https-redirect", "write https-redirect = 443"),
    row("listen", "default defaultserver", "", "hosts that no site names are answered by the site without names"),
    row("listen", "servername names domain domains", "", "hosts are named by their site: names = [\"example.org\"] below [[site]]"),
    row("listen", "unix socket path socketpath", "listen.address", "write address = \"unix:/run/tidegate.sock\""),
    row("listen", "permissions socketmode chmod", "listen.mode", "write mode = \"0660\""),
    row("listen", "user socketuser", "listen.owner", "write owner = \"www-data\""),
    row("listen", "socketgroup", "listen.group", "write group = \"www-data\""),
    row("listen", "cert key certificate certificates sslcertificate sslcertificatekey certfile keyfile tlscert tlskey",
        "tls.certificates", "write cert and key below [[tls.certificates]]"),
    row("- server site general", "port ports host bind ip address addr listenaddress interface serverport serverbind listen", "",
        "write [[listen]], and address = \"0.0.0.0:8080\" below it"),
    row("- server", "general global http https main advanced servers", "",
        "write [server] for the process, [[listen]] for addresses and [[site]] for what is served"),
    row("", "redirecthttps redirecthttptohttps httptohttps httpsredirect http2redirecttohttps forcehttps forcessl", "",
        "write https-redirect = 443 below the [[listen]] of port 80"),
    row("", "proxyprotocol acceptproxy proxyproto", "",
        "write proxy-protocol = \"accept\" below [[listen]], and trusted = [\"10.0.0.0/8\"] below [proxies]"),
    row("", "trustedproxies realip realipheader setrealipfrom logforwardedfor forwardedheaders xforwardedfor remoteipheader", "",
        "write [proxies], with trusted = [\"10.0.0.0/8\"] and header = \"x-forwarded-for\""),
    row("", "http2 h2 h2c alpn usehttp2", "listen.protocols",
        "write protocols = [\"h2\", \"http/1.1\"] below [[listen]]"),
    row("", "http3 h3 quic", "", "tidegate has none: it speaks HTTP/2 and HTTP/1.1"),
    row("", "unix unixsocket", "", "write [[listen]] and address = \"unix:/run/tidegate.sock\""),

    // Certificates.
    row("tls.certificates", "certificate crt pem chain fullchain certfile certificatefile public publickey sslcertificate file path",
        "tls.certificates.cert", "write it as cert"),
    row("tls.certificates", "privatekey private keyfile privkey sslcertificatekey", "tls.certificates.key", "write it as key"),
    row("tls.certificates", "password passphrase passwd keypassword keypassphrase sslpasswordfile", "",
        "a key has none here: `openssl pkey -in KEY -out PLAIN` writes it without"),
    row("tls.certificates", "name names domain domains hosts servername sni default", "",
        "a certificate is for the names that it tells itself"),
    row("- server tls site", "cert certs key certificate certificates sslcert sslkey sslcertificate sslcertificatekey sslcertificatefile \
        sslcertificatekeyfile certfile keyfile certificatefile privatekey privkey tlscert tlskey http2tlscert http2tlskey pemfile \
        sslpemfile sslprivkey", "tls.certificates", "write cert and key below [[tls.certificates]]"),
    row("tls", "version versions tlsversion protocol protocols", "tls.min-version", "write min-version = \"1.3\""),
    row("tls", "maxversion maximumversion", "", "there is min-version alone"),
    row("tls", "ca cafile cacert clientcafile clientcas", "tls.client-ca", "write client-ca = \"clients.pem\""),
    row("tls", "verify verifyclient require requireclientcert clientcert", "tls.client-auth",
        "write client-auth = \"require\" and client-ca"),
    row("tls", "enabled enable listen address port", "",
        "write [[listen]] with address = \"0.0.0.0:443\" and tls = true, and [[tls.certificates]]"),
    row("", "acme letsencrypt certbot autotls autohttps automatichttps ondemand email issuer acmeca", "",
        "tidegate gets no certificates itself: docs/tls.md tells how certbot and lego renew them for it"),
    row("", "sslprotocols sslprotocol protocols minprotocol tlsversion minversion minimumversion tlsminversion", "",
        "write min-version = \"1.3\" below [tls]"),
    row("", "ciphers sslciphers ciphersuite ciphersuites sslciphersuite sslpreferserverciphers cipherlist curves ecdhcurve", "",
        "tidegate has no choice of ciphers: min-version of [tls] has two profiles of Mozilla's"),
    row("", "stapling sslstapling ocsp ocspstapling sslsessioncache sslsessiontickets sessiontickets sslsessiontimeout ssldhparam dhparam", "",
        "tidegate has none"),
    row("", "stricttransportsecurity hstsmaxage", "", "write hsts = \"max-age=63072000\" below [tls]"),
    row("", "sslclientcertificate sslverifyclient sslcacertificatefile clientcertificate mtls", "",
        "write client-auth = \"require\" and client-ca below [tls]"),
    row("- server site", "ssl sslengine tlsenabled", "", "write tls = true below [[listen]], and [[tls.certificates]]"),

    // Sites and their directories.
    row("site", "documentroot docroot dir directory path webroot publicdir publicfolder public folder source src serverdocumentroot filedir",
        "site.root", "write it as root"),
    row("- server general", "root documentroot docroot dir directory path webroot publicdir publicfolder public publish folder www \
        serverdocumentroot filedir fileserver static staticdir", "site", "write [[site]], and root = \"/srv/www\" below it"),
    row("site", "servername hostname hostnames serveralias host hosts domain domains virtualhost servernames", "site.names",
        "write names = [\"example.org\"]"),
    row("site", "alias aliases", "",
        "write names = [\"example.org\", \"www.example.org\"] for other hosts, [[site.mount]] with at and root for another directory"),
    row("", "servername hostname hostnames serveralias hosts domain domains virtualhost virtualhosts vhost vhosts", "",
        "write names = [\"example.org\"] below the [[site]] of these hosts"),
    row("site", "default defaultserver isdefault", "", "the site without names answers for all hosts that no other has"),
    row("site.mount", "path prefix url location match from", "site.mount.at", "write it as at"),
    row("site.mount", "dir directory docroot documentroot webroot folder source src target alias to rootdir file", "site.mount.root",
        "write it as root"),
    row("", "mount mounts mountpoint mountpoints alias aliases aliasurl directories virtualdirectories", "site.mount",
        "write [[site.mount]] below a [[site]], with at = \"/static\" and root"),
    row("", "location locations handle handlepath route routes paths path ifmodule filesmatch locationmatch", "",
        "there are no sections for paths: match of [[site.headers]] and [[site.respond]], from of [[site.redirects]] \
         and at of [[site.mount]] say which they are for"),
    row("", "rewrite rewrites rewriterule rewriterules rewriteengine rewritecond urlrewrite urlrewriteonce uri", "",
        "tidegate rewrites no paths: [[site.redirects]] sends clients on, try-files looks for other files, [[site.mount]] \
         has another directory at a path"),
    row("", "redir redirection redirections redirectmatch redirectpermanent urlredirect", "site.redirects",
        "write [[site.redirects]] below a [[site]], with from and to"),
    row("", "deny allow order require remoteip whitelist blacklist allowlist denylist cidr", "site.access",
        "write [[site.access]] below a [[site]], with match = \"/private/**\", allow = [\"192.0.2.0/24\"] and deny = [\"all\"]"),
    row("", "respond return denied block blocked blocklist forbid forbidden internal maintenance maintenancemode \
        maintenancemodestatus urlaccessdeny", "site.respond",
        "write [[site.respond]] below a [[site]], with match = \"/private/**\" and status = 403"),
    row("", "auth basicauth authbasic authbasicuserfile basicauthentication htpasswd password passwords users authtype authname \
        authuserfile authbasicauthoritative", "site.auth",
        "write [[site.auth]] below a [[site]], with match = \"/private/**\" and users, a file of htpasswd -B"),
    row("", "forwardauth authrequest jwt", "", "other servers are not asked: [[site.auth]] has passwords, and client-auth of [tls] certificates"),
    row("", "autoindex browse dirlist dirlisting dirlistingactivate listing listdirectory listdirectories directorylist filedirlisting options \
        autoindexexactsize autoindexformat directorylistingorder directorylistingformat", "",
        "write directory-listing = true below a [[site]]"),
    row("", "directoryindex indexfile indexfiles indexfilenames indexes fileindex defaultfile", "site.index",
        "write index = [\"index.html\"] below a [[site]]"),
    row("", "tryfile trypath", "", "write try-files = [\"$path\", \"$path/\"] below a [[site]]"),
    row("", "spa singlepage singlepageapp fallback pagefallback historyfallback historyapifallback fallbackresource", "",
        "write spa-fallback = \"/index.html\" below a [[site]]"),
    row("", "errorpage errordocument errordocuments errorpages errorfile errors handleerrors page404 page50x error404 custom404 notfound \
        notfoundpage fileerrordoc servererrorhandler404", "", "write error-pages = { 404 = \"/404.html\" } below a [[site]]"),
    row("", "trailingslash redirecttrailingslash addtrailingslash appendslash stripslash mergeslashes cleanurls htmlextension \
        extensions", "", "directories are redirected to their slash anyway; try-files = [\"$path\", \"$path.html\", \"$path/\"] finds \
         names without .html"),
    row("", "hidden hide hidedotfiles dotfiles ignorehiddenfiles showhidden indexignore", "", "write hidden-files = false below a [[site]]"),
    row("", "followsymlinks followsymlink disablesymlinks serverfollowsymlink followlinks", "", "write symlinks = \"beneath\" below a [[site]]"),
    row("", "types mime mimetype addtype mimetypeassign mediatypes contenttypes filemimeaddtypes typesconfig", "",
        "write mime-types = { wasm = \"application/wasm\" } below a [[site]]"),
    row("", "addcharset charsettypes adddefaultcharset", "", "write charset = \"utf-8\" below a [[site]]"),

    // Header fields.
    row("site.headers", "path paths pattern glob source location url for files from", "site.headers.match", "write it as match"),
    row("site.headers", "headers header values value add name field fields append always", "site.headers.set",
        "write set = { X-Name = \"value\" }"),
    row("site.headers", "cachecontrol expires maxage ttl", "site.headers.cache",
        "write cache = \"immutable\", or set = { Cache-Control = \"max-age=3600\" }"),
    row("site.cors", "alloworigin alloworigins allowedorigin allowedorigins corsalloworigins enabled", "site.cors.origins",
        "write origins = [\"https://app.example.org\"]"),
    row("site.cors", "methods allowmethods allowedmethods headers allowheaders allowedheaders exposeheaders exposedheaders credentials \
        allowcredentials corsallowheaders corsexposeheaders", "", "it is decided by tidegate: there are origins and max-age"),
    row("", "corsalloworigin corsalloworigins alloworigin alloworigins accesscontrolalloworigin", "",
        "write [site.cors] below a [[site]], with origins = [\"https://app.example.org\"]"),
    row("- server general advanced", "headers header", "", "write [[site.headers]] below the [[site]] that it is for, with match and set"),
    row("- server", "redirects redirect", "", "write [[site.redirects]] below the [[site]] that it is for, with from and to"),
    row("- server", "cors", "", "write [site.cors] below the [[site]] that it is for, with origins"),
    row("site.headers", "except exclude unless not remove unset", "",
        "there is none: set = { X-Name = \"\" } of a later rule takes a field back"),
    row("", "csp contentsecuritypolicy xframeoptions xcontenttypeoptions referrerpolicy permissionspolicy \
        addheader addheaders headersset customheaders responseheaders securityheaders setenvaddresponseheader headeradd", "",
        "write [[site.headers]] below a [[site]], with match = \"/**\" and set = { X-Name = \"value\" }"),
    row("", "expires expiresactive expiresdefault expiresbytype expireurl cachecontrol cachecontrolheaders maxage filecustomexpires", "",
        "write [[site.headers]] below a [[site]], with match and cache = \"immutable\" or set = { Cache-Control = \"max-age=3600\" }"),
    row("site", "caching", "", "write [[site.headers]] below it, with match and cache = \"immutable\" for clients, \
         [[site.cache]] with match and ttl for what is kept of an origin"),

    // Origins.
    row("site", "origins upstream upstreams backend backends proxypass proxy reverseproxy proxyreverseurl", "site.origin",
        "write origin = { http = \"https://HOST/PATH\" }: what is there is kept and sent"),
    row("site", "s3 bucket endpoint s3bucket objectstore", "site.origin",
        "write origin = { s3 = \"https://HOST/BUCKET\", region = \"us-east-1\" }"),
    row("site.origin", "bucket endpoint store", "site.origin.s3", "write s3 = \"https://HOST/BUCKET/PREFIX\""),
    row("site.origin", "url uri https address server upstream target", "site.origin.s3",
        "write s3 = \"https://HOST/BUCKET/PREFIX\" for an S3 store, or http = \"https://HOST/PATH\""),
    row("site.origin", "prefix path", "", "write it at the end of the URL: s3 = \"https://HOST/BUCKET/PREFIX\""),
    row("site.origin", "accesskey accesskeyid secretkey secretaccesskey secret key token sessiontoken user password",
        "site.origin.credentials", "no secrets are here: profile names a section of the shared files of AWS"),
    row("site.origin", "pathstyle forcepathstyle usepathstyle addressing addressingstyle", "site.origin.style",
        "write style = \"path\" or \"virtual-host\""),
    row("site.origin", "anonymous public nosignrequest unsigned", "site.origin.credentials", "write credentials = \"none\""),
    row("site.origin", "timeout readtimeout", "", "write connect-timeout, first-byte-timeout and stall-timeout"),
    row("site.origin", "hostheader sethost", "site.origin.host", "write it as host"),
    row("site.origin", "cafile cacert cacertificate trustedca", "site.origin.ca", "write ca = \"ca.pem\""),
    row("site.origin", "insecure skipverify insecureskipverify verify tlsverify sslverify", "site.origin.ca",
        "certificates are always checked: write ca = \"ca.pem\" for a private authority"),
    row("site.origin", "maxconnections maxconns poolsize concurrency", "site.origin.connections", "write connections = 64"),
    row("site.cache", "path pattern location url paths", "site.cache.match", "write it as match"),
    row("site.cache", "valid maxage age expires freshness lifetime smaxage", "site.cache.ttl", "write ttl = \"1h\""),
    row("site.cache", "nostore off bypass nocache enabled", "site.cache.ttl", "write ttl = \"off\""),
    row("site.cache", "stale grace", "site.cache.stale-if-error",
        "write stale-while-revalidate = \"1m\" and stale-if-error = \"1d\""),
    row("site.cache", "key cachekey query", "", "write cache-key below [[site]]"),
    row("cache.disk", "dir directory root folder location", "cache.disk.path", "write it as path"),
    row("cache.disk", "max maxsize limit bytes capacity", "cache.disk.size", "write size = \"64g\""),
    row("cache.disk", "slicesize chunk chunksize block blocksize", "cache.disk.slice", "write slice = \"4m\""),
    row("- server", "origin origins backend backends", "",
        "write origin = { http = \"https://HOST/PATH\" } below a [[site]]: what is there is kept and sent"),
    row("", "upstream upstreams proxypass proxy reverseproxy proxyreverseurl", "",
        "write origin = { http = \"https://HOST/PATH\" } below a [[site]]: what is there is kept and sent"),
    row("", "proxycache proxycachepath proxycachevalid cachepath cachedir", "",
        "write path below [cache.disk], and [[site.cache]] with match and ttl below a [[site]] with an origin"),
    row("", "proxycachekey querystring ignorequery", "", "write cache-key = \"path\" below a [[site]] with an origin"),

    // Other nodes.
    row("admin", "secret key purgekey purgetoken apikey tokenfile", "admin.token", "write token = \"token\", a file with the secret"),
    row("fleet", "nodes members servers hosts addresses cluster peer node", "fleet.peers", "write it as peers"),
    row("fleet", "address bind addr port listenaddress", "fleet.listen", "write listen = \"0.0.0.0:8081\""),
    row("fleet", "advertise advertiseaddress me own host hostname", "fleet.self", "write it as self"),
    row("fleet", "secret key password auth sharedsecret tokenfile", "fleet.token", "write token = \"token\", a file with the secret"),
    row("- server", "cluster peers nodes siblings", "", "write peers and listen below [fleet]"),

    // Redirects and answers.
    row("site.redirects", "source match path pattern url old location regex", "site.redirects.from", "write it as from"),
    row("site.redirects", "destination target new replacement location uri", "site.redirects.to", "write it as to"),
    row("site.redirects", "code statuscode permanent temporary type kind", "site.redirects.status", "write status = 301"),
    row("site.respond", "path pattern from location url paths", "site.respond.match", "write it as match"),
    row("site.respond", "code statuscode", "site.respond.status", "write status = 403"),
    row("site.respond", "exclude excludes unless not exceptpaths", "site.respond.except", "write except = [\"/page.html\"]"),
    row("site.respond", "allow deny ip ips address addresses clients order", "", "[[site.access]] tells clients apart by address"),
    row("site.auth", "file htpasswd authuserfile authbasicuserfile userfile passwords passwordfile", "site.auth.users", "write it as users"),
    row("site.auth", "name authname title", "site.auth.realm", "write it as realm"),
    row("site.auth", "path pattern location urls", "site.auth.match", "write it as match"),
    row("site.auth", "user password username", "site.auth.users", "write users = \"users.htpasswd\", a file of htpasswd -B"),
    row("", "securelink securelinkmd5 securelinksecret signing signature signatures signedurl signedurls hmac", "site.signed",
        "write [[site.signed]] below a [[site]], with match = \"/video/**\" and keys; `tidegate sign` makes the URLs"),
    row("", "limitrate limitrateafter throttle bandwidth pacing maxrate", "site.pace",
        "write [[site.pace]] below a [[site]], with match = \"/video/**\" and rate = \"20m\", bytes in a second"),
    row("site.access", "path pattern location url paths", "site.access.match", "write it as match"),
    row("site.access", "exclude excludes unless not exceptpaths", "site.access.except", "write except = [\"/page.html\"]"),
    row("site.access", "denied block forbid", "site.access.deny", "write deny = [\"all\"]"),
    row("site.access", "ip ips address addresses clients cidr cidrs from permit", "site.access.allow", "write allow = [\"192.0.2.0/24\"]"),
    row("site.respond", "headers header set add contenttype type", "", "write [[site.headers]] with the same match"),
    row("site.respond", "body text content file message", "site.respond.page", "write page = \"/page.html\", a file of the site"),

    // Compression.
    row("", "gzipstatic brotlistatic zstdstatic compressionstatic filesendgzip filesendcompressed precompress precompression", "",
        "write precompressed = [\"br\", \"zstd\", \"gzip\"] below a [[site]]; `tidegate compress DIR` writes the variants"),
    row("", "gzip brotli zstd deflate compress compression compressionlevel encode gziptypes gziplevel gzipcomplevel gzipminlength \
        gzipvary gzipproxied brotlitypes brotlicomplevel deflatemimetypes deflateallowedencodings addoutputfilterbytype", "",
        "files are not compressed while they are served: `tidegate compress DIR` writes variants, which site.precompressed sends"),

    // The process.
    row("", "workerprocesses workers workerthreads worker threads numthreads threadsmultiplier processes cpus workercpuaffinity \
        cpuaffinity maxworkers servermaxworker startservers maxblockingthreads", "server.cores", "write cores = 4 below [server]"),
    row("", "workerconnections maxconnections maxconns connections maxclients maxrequestworkers servermaxconnections", "",
        "write connections-per-core below [limits]"),
    row("- server site general", "user username serverusername uid runas", "server.user", "write user = \"www-data\" below [server]"),
    row("- server site general", "group groupname servergroupname gid", "server.group", "write group = \"www-data\" below [server]"),
    row("", "pid pidfile serverpidfile", "", "tidegate has no pid file: systemd or another supervisor knows the process that it started"),
    row("", "daemon daemonize background detach", "", "tidegate stays in the foreground: systemd or another supervisor keeps it running"),
    row("", "chroot serverchroot", "", "tidegate has none: systemd's RootDirectory= does it"),
    row("access-log site.access-log", "file filename output destination target accesslog", "access-log.path", "write it as path"),
    row("", "accesslog accesslogs customlog transferlog logformat accesslogformat accesslogfilename logrequests logremoteaddress", "",
        "write [access-log], and path below it"),
    row("", "log logs logging logger loglevel errorlog errorlogs servererrorlog logfile logoutput verbose debug", "",
        "logs go to standard error, and RUST_LOG chooses them: RUST_LOG=debug"),
    row("", "includes import imports includeoptional includeshell extends", "include", "write include = [\"sites/*.toml\"], above all sections"),
    row("admin", "enabled enable metrics health healthz status", "admin.listen",
        "listen = \"127.0.0.1:9900\" has /healthz, /readyz and /metrics"),
    row("admin", "auth user users username password allow deny tls ssl", "",
        "it has no passwords and no TLS: listen on an address that nobody else reaches"),
    row("site", "status", "", "[[site.respond]] and [[site.redirects]] have it"),
    row("- server", "status", "", "write listen = \"127.0.0.1:9900\" below [admin]: it has /healthz, /readyz and /metrics"),
    row("", "health healthcheck healthz metrics prometheus stubstatus serverstatus experimentalmetrics", "",
        "write listen = \"127.0.0.1:9900\" below [admin]: it has /healthz, /readyz and /metrics"),
    row("", "sendfile sendfilemaxchunk aio directio tcpnopush tcpnodelay nodelay tcpfastopen reuseport use usepoll epoll multiaccept \
        acceptmutex eventhandler servereventhandler", "", "it is decided by tidegate"),
    row("", "openfilecache openfilecachevalid filecache", "", "write open-files-per-core and valid below [cache]"),
    row("", "watch livereload reload autoreload", "", "changed files show within cache.valid"),
    row("", "servertokens serversignature servertag serverheader", "", "tidegate has none"),
    row("- server site", "version", "", "tidegate has none"),

    // HTTP/2.
    row("http2", "maxconcurrentstreams streams maxstreams", "http2.concurrent-streams", "write concurrent-streams = 128"),
    row("http2", "enabled enable", "listen.protocols", "write protocols = [\"h2\", \"http/1.1\"] below [[listen]]"),
    row("", "http2maxconcurrentstreams maxconcurrentstreams", "", "write concurrent-streams below [http2]"),
    row("", "http2push http2pushpreload push", "", "browsers no longer take pushes: send a Link field with rel=preload"),

    // Limits and times.
    row("timeouts", "idle idletimeout keepalivetimeout", "timeouts.keep-alive", "write keep-alive = \"75s\""),
    row("timeouts", "read request client headers readheader handshake", "timeouts.header", "write header = \"10s\""),
    row("timeouts", "write send response", "timeouts.send-stall", "write send-stall = \"60s\""),
    row("timeouts", "graceful shutdown stop", "", "write graceful-timeout = \"30s\" below [server]"),
    row("", "keepalivetimeout idletimeout http1idletimeout servermaxkeepaliveidle", "", "write keep-alive = \"75s\" below [timeouts]"),
    row("", "clientheadertimeout readtimeout requesttimeout headertimeout readheadertimeout http1requesttimeout servermaxreadidle", "",
        "write header = \"10s\" below [timeouts]"),
    row("", "sendtimeout writetimeout servermaxwriteidle", "", "write send-stall = \"60s\" below [timeouts]"),
    row("server site listen limits", "timeout", "", "[timeouts] has them: header, keep-alive, send-stall, linger and lookup"),
    row("", "graceperiod shutdowntimeout gracefulshutdown workershutdowntimeout", "", "write graceful-timeout = \"30s\" below [server]"),
    row("", "clientmaxbodysize maxbody maxbodysize bodylimit limitrequestbody clientbodybuffersize", "",
        "write body-discard below [limits]: bodies are read and dropped"),
    row("", "clientheaderbuffersize largeclientheaderbuffers maxheadersize maxheaderbytes limitrequestfieldsize limitrequestline", "",
        "write header-bytes below [limits]"),
    row("", "keepaliverequests maxkeepaliverequests servermaxkeepaliverequests", "", "write requests-per-connection below [limits]"),
    row("", "maxranges rangelimit", "", "write ranges below [limits]"),
    row("", "limitconn limitconnzone connectionsperip perip", "", "write connections-per-ip below [limits]"),
    row("", "limitreq limitreqzone ratelimit requestsperip rateperip", "",
        "write request-rate-per-ip and request-burst-per-ip below [limits]"),

    // Features that tidegate lacks.
    row("", "fastcgi fastcgipass phpfastcgi php cgi wsgi uwsgipass scgi lua perl", "", "tidegate runs no programs: it serves files"),
    row("", "upload uploads webdav dav put methods", "", "tidegate has GET, HEAD and OPTIONS alone"),
    row("", "ssi templates markdown acceptmarkdown subfilter", "", "files are sent as they are"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::known_keys;

    fn is_known(dotted: &str) -> bool {
        known_keys().iter().any(|known| known == dotted)
    }

    #[test]
    fn what_was_meant_is_known() {
        for row in ROWS {
            assert!(row.meant.is_empty() || is_known(row.meant), "{}", row.meant);
        }
    }

    /// A key that tidegate gains is removed from the table.
    #[test]
    fn a_key_that_tidegate_has_is_not_said_to_be_missing() {
        for row in ROWS.iter().filter(|row| row.says.starts_with("tidegate ")) {
            let is_there = |known: &&String| {
                let (table, name) = known.rsplit_once('.').unwrap_or(("-", known));
                row.is_for(table) && row.has(&squash(name))
            };
            let keys = known_keys();
            assert_eq!(keys.iter().find(is_there), None, "{}", row.says);
        }
    }

    #[test]
    fn every_key_is_written_as_it_is_compared() {
        for row in ROWS {
            for key in row.keys.split(' ') {
                assert!(
                    !key.is_empty() && squash(key) == key,
                    "{key:?}: {}",
                    row.says
                );
            }
        }
    }

    #[test]
    fn notations_are_alike() {
        for key in [
            "server_name",
            "server-name",
            "serverName",
            "ServerName",
            "server.name",
        ] {
            let row = find("site", key).unwrap();
            assert_eq!(row.meant, "site.names", "{key}");
        }
        assert!(find("site", "flux-capacitor").is_none());
    }
}
