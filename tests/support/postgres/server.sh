#!/usr/bin/env bash
# One private PostgreSQL server on loopback and a unix socket, for tests; it lives as long as our standard input.
#
#   server.sh BINARIES FOLDER PORT
#
# BINARIES holds initdb and postgres. FOLDER is made here and removed at the end; the socket is in it.
# The superuser is `app`, without a password; anybody else on loopback needs one.
#
# Says `ready` (or `error WHY`) once, then answers each line that it reads with
# `ok` or `error WHY`. Lines of output come before that and start with `| `.
#
#   kill      kills every process of the server at once, as a loss of power would; what is on disk stays
#   shutdown  stops it in good order: clients are told and sent away
#   start     starts it again and waits until it answers
#   stop      freezes it: connections stay open and nothing answers
#   cont      lets it go on
#   pids      the process ids of the server, the first one its own
#
# Whoever asks holds the other end of our standard input. When that process is
# gone, killed or not, the end of the input is all that we need to hear.
set -uo pipefail

binaries=$1 folder=$2 port=$3
start_seconds=60
server=''

# Nothing of the caller's own PostgreSQL may reach this one.
unset "${!PG@}" NOTIFY_SOCKET
cd / || exit 1

# The server refuses to run as root.
as=() own=()
if [ "$(id -u)" = 0 ]; then
    as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
    own=(-o nobody -g nogroup)
fi

say() { printf '%s\n' "$*"; }
fail() { say "error $*"; }

make_cluster() {
    mkdir "$folder" && chmod 711 "$folder" && install -d "${own[@]}" -m 700 "$folder/data" &&
        install -d "${own[@]}" -m 755 "$folder/run" && install "${own[@]}" -m 600 /dev/null "$folder/log" || return 1
    "${as[@]}" "$binaries/initdb" -D "$folder/data" -U app -A trust \
        --no-locale -E UTF8 --no-sync >>"$folder/log" 2>&1 || return 1
    cat >"$folder/data/pg_hba.conf" <<CONF
local all app trust
host all app 127.0.0.1/32 trust
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
CONF
    cat >>"$folder/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$folder/run'
max_connections = 200
shared_buffers = 32MB
# A test kills processes and not the machine: what they wrote is in the kernel's hands.
fsync = off
full_page_writes = off
autovacuum_naptime = 5s
CONF
}

# Nobody asks twice without an answer, so an input that is readable now is at its end.
abandoned() { read -r -t 0; }

boot() {
    setsid "${as[@]}" "$binaries/postgres" -D "$folder/data" >>"$folder/log" 2>&1 </dev/null &
    server=$!
    local until=$((SECONDS + start_seconds))
    until "$binaries/pg_isready" -q -h "$folder/run" -p "$port"; do
        abandoned && exit 1
        if ! kill -0 "$server" 2>/dev/null; then
            crash
            return 1
        fi
        if [ "$SECONDS" -ge "$until" ]; then
            crash
            say "| no answer within $start_seconds s"
            return 1
        fi
        sleep 0.05
    done
}

# The server and its children; each of those leads a session of its own.
processes() {
    local children
    children=$(ps -o pid= --ppid "$server" 2>/dev/null)
    printf '%s %s' "$server" "${children//$'\n'/ }"
}

# A frozen process dies of SIGKILL too.
crash() {
    local pids
    # The parent first, or it would make new children.
    kill -STOP "$server" 2>/dev/null
    read -r -a pids <<<"$(processes)"
    kill -KILL "${pids[@]}" 2>/dev/null
    wait "$server" 2>/dev/null
    local pid tries=0
    for pid in "${pids[@]}"; do
        # The next start would find them attached to the shared memory.
        while kill -0 "$pid" 2>/dev/null && [ $((tries += 1)) -lt 500 ]; do sleep 0.01; done
    done
    server=''
}

log_tail() { tail -n 15 "$folder/log" 2>/dev/null | sed 's/^/| /'; }

clean() {
    trap '' HUP INT TERM PIPE
    [ -z "$server" ] || crash
    [ -z "${made:-}" ] || rm -rf -- "$folder"
}

signal() {
    local pids
    if [ -z "$server" ]; then
        fail 'the server is not running'
        return
    fi
    read -r -a pids <<<"$(processes)"
    if kill "-$1" "${pids[@]}" 2>/dev/null || kill -0 "$server"; then say ok; else fail "no signal $1 for the server"; fi
}

trap 'exit 1' HUP INT TERM PIPE
trap clean EXIT

if [ -e "$folder" ]; then
    fail "there is a $folder already"
    exit 1
fi
made=yes
if ! make_cluster || ! boot; then
    log_tail
    fail 'the server did not start'
    exit 1
fi
say ready

while read -r word; do
    case "$word" in
        kill)
            if [ -n "$server" ]; then
                crash
                say ok
            else
                fail 'the server is not running'
            fi
            ;;
        shutdown)
            if [ -n "$server" ]; then
                kill -INT "$server"
                wait "$server" 2>/dev/null
                server=''
                say ok
            else
                fail 'the server is not running'
            fi
            ;;
        start)
            if [ -n "$server" ]; then
                fail 'the server is running'
            elif boot; then
                say ok
            else
                log_tail
                fail 'the server did not start'
            fi
            ;;
        stop) signal STOP ;;
        cont) signal CONT ;;
        pids)
            say "| $(processes)"
            say ok
            ;;
        *) fail "no such command: $word" ;;
    esac
done
