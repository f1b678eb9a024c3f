#!/usr/bin/env bash
# The secrets that docker-compose.yml mounts and k8s/README.md hands to the cluster, each in a file of its own, made at random.
# A file that is there already is left as it is, so put your own ones there first, or change single ones later.
set -euo pipefail

folder=${1:?usage: conf/make-secrets.sh FOLDER [DATABASE-HOST [TLS-NAME]]}
database_host=${2:-postgres}
tls_name=${3:-localhost}

if ! command -v openssl > /dev/null; then
    echo "openssl is missing (Debian's name: openssl)." >&2
    exit 1
fi

umask 077
mkdir -p "$folder"
# Nobody else gets into the folder. The files themselves are readable, because containers mount them one by one and read them
# as a user that this machine does not know.
chmod 0700 "$folder"

# make NAME COMMAND…: the file, unless it is there. It comes whole or not at all.
make() {
    local file=$folder/$1
    shift
    [[ -s $file ]] && return
    "$@" > "$file.new"
    chmod 0444 "$file.new"
    mv "$file.new" "$file"
    echo "$file" >&2
}

database_url() { printf 'postgres://capibara6:%s@%s/capibara6\n' "$(< "$folder/postgres_password")" "$database_host"; }

redis_conf() { printf 'requirepass %s\n' "$(< "$folder/redis_password")"; }

# The issuer's name is that of a development certificate, so that a gateway in production refuses it.
certificate() {
    openssl req -x509 -days 30 -key "$folder/tls.key" -subj "/CN=Capibara6 development" \
        -addext "subjectAltName=DNS:$tls_name" -addext "extendedKeyUsage=serverAuth"
}

make postgres_password openssl rand -hex 24
make database_url database_url
make redis_password openssl rand -hex 24
make redis.conf redis_conf
make introspection openssl rand -hex 32
make keys_secret openssl rand -hex 32
make signing_key.pem openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256
make tls.key openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256
make tls.crt certificate
