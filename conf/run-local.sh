#!/usr/bin/env bash
# The whole system on this machine, for looking at: two backends on one SQLite file, the gateway in front of them with a
# throw-away certificate. `make run` builds the programs and starts this with their folder.
#
# Whatever happens (Ctrl-C, a taken port, a program that dies), no process is left behind.
set -euo pipefail

programs=${1:?usage: conf/run-local.sh FOLDER-OF-THE-PROGRAMS}
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly START_SECONDS_MAX=30 # debug builds on a busy machine; usually it takes one
readonly DRAIN_SECONDS_MAX=15 # a little over `server.drain` of both configurations
readonly PORTS=(8000 8001 8002 8010 8011 8012 8080 8443 9901)

declare -A pids=()

say() { printf '%s\n' "$*" >&2; }

# start NAME PROGRAM ARGUMENT…: runs in the background, in a session of its own. Ctrl-C then reaches only this script,
# which stops the gateway before what it still needs.
start() {
    local name=$1
    shift
    setsid "$@" < /dev/null > ".run/$name.log" 2>&1 &
    pids[$name]=$!
}

alive() { kill -0 "${pids[$1]}" 2> /dev/null; }

# stop NAME…: asks all to finish what is in flight, and insists when the time is up.
stop() {
    local name deadline=$((SECONDS + DRAIN_SECONDS_MAX))
    for name in "$@"; do
        [[ -n ${pids[$name]:-} ]] && kill -TERM "${pids[$name]}" 2> /dev/null || true
    done
    for name in "$@"; do
        [[ -n ${pids[$name]:-} ]] || continue
        while alive "$name" && ((SECONDS < deadline)); do sleep 0.1; done
        if alive "$name"; then
            say "$name does not end by itself within $DRAIN_SECONDS_MAX s; it is killed."
            kill -KILL "${pids[$name]}" 2> /dev/null || true
        fi
        wait "${pids[$name]}" 2> /dev/null || true
        unset "pids[$name]"
    done
}

finish() {
    trap '' INT TERM HUP
    stop gateway
    stop backend-1 backend-2
}

# died: the name of a program that has ended, and what it last said; false while all run.
died() {
    local name
    for name in "${!pids[@]}"; do
        alive "$name" && continue
        say "$name has ended. The last lines of .run/$name.log:"
        tail -n 20 ".run/$name.log" >&2
        return 0
    done
    return 1
}

# await WHAT URL: until it answers with success.
await() {
    local deadline=$((SECONDS + START_SECONDS_MAX))
    until curl --silent --fail --max-time 2 --output /dev/null "$2"; do
        if died; then exit 1; fi
        if ((SECONDS >= deadline)); then
            say "$1 does not answer on $2 within $START_SECONDS_MAX s. Its log: .run/${1}.log"
            exit 1
        fi
        sleep 0.2
    done
}

refuse_taken_ports() {
    local port taken=0
    for port in "${PORTS[@]}"; do
        if (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then
            say "Port $port is taken. Who has it: ss -ltnp 'sport = :$port'"
            taken=1
        fi
    done
    if ((taken)); then exit 1; fi
}

# start_backend NAME API-PORT GRAPHQL-PORT INTERNAL-PORT
start_backend() {
    CAPIBARA6_API_BIND=127.0.0.1:$2 CAPIBARA6_GRAPHQL_BIND=127.0.0.1:$3 CAPIBARA6_INTERNAL_BIND=127.0.0.1:$4 \
        CAPIBARA6_DATABASE_PATH=.run/capibara6.db CAPIBARA6_DATABASE_URL='' \
        start "$1" "$programs/backend" all -c conf/backend.yaml
}

print_requests() {
    cat << 'TEXT'

Capibara6 runs. Paste these into another terminal, in this folder, from top to bottom:

  # Log in. The token is good for 30 minutes.
  TOKEN=$(curl -sS --cacert .run/tls/ca.crt https://localhost:8443/auth/login -H 'Content-Type: application/json' \
    -d '{"username":"admin","password":"admin123"}' | sed -n 's/.*"access_token":"\([^"]*\)".*/\1/p')

  # The models.
  curl -sS --cacert .run/tls/ca.crt https://localhost:8443/api/v1/models -H "Authorization: Bearer $TOKEN"; echo

  # A query: through TLS, token, permission, limit and balancer to a model and back.
  curl -sS --cacert .run/tls/ca.crt https://localhost:8443/api/v1/query -H "Authorization: Bearer $TOKEN" \
    -H 'Content-Type: application/json' -d '{"query":"What does a gateway do?"}'; echo

  # The same by GraphQL, with just what is wanted of it.
  curl -sS --cacert .run/tls/ca.crt https://localhost:8443/graphql -H "Authorization: Bearer $TOKEN" \
    -H 'Content-Type: application/json' \
    -d '{"query":"mutation { processQuery(input: { query: \"What does a gateway do?\" }) { result { text } cached } }"}'; echo

  # 401: no credential.
  curl -sS -i --cacert .run/tls/ca.crt https://localhost:8443/api/v1/models; echo

  # 401: a token after its logout, refused by the gateway itself (Proxy-Status says so) within a second.
  SESSION=$(curl -sS --cacert .run/tls/ca.crt https://localhost:8443/auth/login -H 'Content-Type: application/json' \
    -d '{"username":"admin","password":"admin123"}')
  GONE=$(sed -n 's/.*"access_token":"\([^"]*\)".*/\1/p' <<< "$SESSION")
  REFRESH=$(sed -n 's/.*"refresh_token":"\([^"]*\)".*/\1/p' <<< "$SESSION")
  curl -sS --cacert .run/tls/ca.crt https://localhost:8443/auth/logout -H "Authorization: Bearer $GONE" \
    -H 'Content-Type: application/json' -d "{\"refresh_token\":\"$REFRESH\"}"; sleep 1
  curl -sS -i --cacert .run/tls/ca.crt https://localhost:8443/api/v1/models -H "Authorization: Bearer $GONE"; echo

  # 403: an API key that may only look, used for a query.
  KEY=$(curl -sS --cacert .run/tls/ca.crt https://localhost:8443/api/v1/api-keys -H "Authorization: Bearer $TOKEN" \
    -H 'Content-Type: application/json' -d '{"name":"looks only","permissions":["read","api_access"]}' \
    | grep -o 'cap6_[a-z0-9]\{12\}_[A-Za-z0-9_-]\{43\}')
  curl -sS -i --cacert .run/tls/ca.crt https://localhost:8443/api/v1/query -H "X-API-Key: $KEY" \
    -H 'Content-Type: application/json' -d '{"query":"May I?"}'; echo

  # 429: 130 requests where 100 a minute are free. First the statuses counted, then a refusal in full.
  curl -sS --cacert .run/tls/ca.crt "https://localhost:8443/api/v1/models?n=[1-130]" -H "Authorization: Bearer $TOKEN" \
    -o /dev/null -w '%{http_code}\n' | sort | uniq -c
  curl -sS -i --cacert .run/tls/ca.crt https://localhost:8443/api/v1/models -H "Authorization: Bearer $TOKEN"; echo

  # What the operator sees.
  curl -sS http://localhost:9901/metrics | grep '^gateway_'

In a browser, which warns of the certificate: https://localhost:8443/api/v1/docs/, where the API can be tried out, and
https://localhost:8443/graphql/ide, once `make web` was run.

Logs: .run/gateway.log (access log included) .run/backend-1.log .run/backend-2.log
Ctrl-C ends all three.
TEXT
}

refuse_taken_ports
trap finish EXIT
trap 'exit 0' INT TERM HUP

umask 077
mkdir -p .run
# A new one at each start: it is good for a look and for nothing else.
rm -rf .run/tls
"$programs/gateway" certificate --name localhost --out .run/tls > .run/certificate.log 2>&1 \
    || { cat .run/certificate.log >&2; exit 1; }

# The seeded administrator and the development signing key exist only there, whatever the shell's own settings are.
export CAPIBARA6_ENV=development

start_backend backend-1 8000 8001 8002
start_backend backend-2 8010 8011 8012
await backend-1 http://127.0.0.1:8000/health
await backend-2 http://127.0.0.1:8010/health
start gateway "$programs/gateway" run -c conf/gateway.yaml
await gateway http://127.0.0.1:9901/health/ready

print_requests

# Until a program ends, which it should not, or a signal comes.
wait -n || true
died || say "A program has ended."
exit 1
