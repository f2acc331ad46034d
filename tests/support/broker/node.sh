#!/usr/bin/env bash
# One private RabbitMQ node on loopback, for tests; it lives as long as our standard input.
#
#   node.sh FOLDER PORT [CERTIFICATES]
#
# FOLDER is made here and removed at the end. PORT to PORT+9 must be free:
# +0 AMQP, +1 management, +3 AMQPS, +4 distribution, +5 epmd, +6 to +9 rabbitmqctl.
# AMQPS is there when CERTIFICATES is: a folder with ca.pem, server.pem and server.key.
# It is asked for anew with each connection, and each must show a certificate of its own.
#
# Says `ready` (or `error WHY`) once, then answers each line that it reads with
# `ok` or `error WHY`. Lines of output come before that and start with `| `.
#
#   kill     kills the broker, as a crash would; what is on disk stays
#   start    boots it again and waits until it answers
#   stop     freezes it: connections stay open and nothing answers
#   cont     lets it go on
#   ctl      rabbitmqctl; the words of the line are separated by tabs
#   pids     the process ids of the broker and of its epmd
#
# Whoever asks holds the other end of our standard input. When that process is
# gone, killed or not, the end of the input is all that we need to hear.
set -uo pipefail

folder=$1 port=$2 certificates=${3:-}
server=/usr/lib/rabbitmq/bin
boot_seconds=90
broker='' epmd=''

# Nothing of the machine's own RabbitMQ may reach this one.
unset "${!RABBITMQ_@}" "${!ERL_@}" NOTIFY_SOCKET
export HOME="$folder/home"
export RABBITMQ_NODENAME="test$port@localhost"
export RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port"
export RABBITMQ_DIST_PORT=$((port + 4)) ERL_EPMD_PORT=$((port + 5)) ERL_EPMD_ADDRESS=127.0.0.1
export RABBITMQ_CTL_DIST_PORT_MIN=$((port + 6)) RABBITMQ_CTL_DIST_PORT_MAX=$((port + 9))
export RABBITMQ_MNESIA_BASE="$folder/mnesia" RABBITMQ_LOG_BASE="$folder/log" RABBITMQ_PID_FILE="$folder/pid"
export RABBITMQ_ENABLED_PLUGINS_FILE="$folder/enabled_plugins" RABBITMQ_CONF_ENV_FILE=/dev/null
export RABBITMQ_CONFIG_FILE="$folder/rabbitmq.conf" RABBITMQ_ADVANCED_CONFIG_FILE="$folder/advanced.config"
# Two schedulers that sleep when idle: several nodes share a small machine with the tests.
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none'
# Makes the server script become the Erlang VM, which is then our own child.
export RUNNING_UNDER_SYSTEMD=true

say() { printf '%s\n' "$*"; }
fail() { say "error $*"; }

write_files() {
    umask 077
    mkdir -p "$(dirname "$folder")" && mkdir "$folder" && mkdir "$HOME" "$folder/mnesia" "$folder/log" || return 1
    printf 'C%s%s%s' "$RANDOM" "$RANDOM" "$RANDOM" >"$HOME/.erlang.cookie"
    chmod 400 "$HOME/.erlang.cookie"
    printf '[rabbitmq_management].\n' >"$folder/enabled_plugins"
    cat >"$folder/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$port
management.tcp.ip = 127.0.0.1
management.tcp.port = $((port + 1))
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
collect_statistics_interval = 200
log.console = false
CONF
    [ -z "$certificates" ] || cat >>"$folder/rabbitmq.conf" <<CONF
listeners.ssl.1 = 127.0.0.1:$((port + 3))
ssl_options.cacertfile = $certificates/ca.pem
ssl_options.certfile = $certificates/server.pem
ssl_options.keyfile = $certificates/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
CONF
    # A quorum queue tells its counts once per tick; five seconds are too old for a test.
    printf '[{rabbit, [{quorum_tick_interval, 200}]}].\n' >"$folder/advanced.config"
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Nobody asks twice without an answer, so an input that is readable now is at its end.
abandoned() { read -r -t 0; }

boot() {
    setsid "$server/rabbitmq-server" >>"$folder/log/out" 2>&1 </dev/null &
    broker=$!
    local until=$((SECONDS + boot_seconds))
    until answers "$port" && answers $((port + 1)); do
        abandoned && exit 1
        if ! kill -0 "$broker" 2>/dev/null; then
            crash
            return 1
        fi
        if [ "$SECONDS" -ge "$until" ]; then
            crash
            say "| no answer within $boot_seconds s"
            return 1
        fi
        sleep 0.1
    done
}

# A frozen process dies of SIGKILL too. `wait` makes sure that the ports are free.
crash() {
    kill -KILL "$broker" 2>/dev/null
    wait "$broker" 2>/dev/null
    broker=''
}

log_tail() { tail -q -n 15 "$folder"/log/out "$folder"/log/*.log 2>/dev/null | sed 's/^/| /'; }

clean() {
    trap '' HUP INT TERM PIPE
    [ -z "$broker" ] || crash
    if [ -n "$epmd" ]; then
        kill -KILL "$epmd" 2>/dev/null
        wait "$epmd" 2>/dev/null
    fi
    [ -z "${made:-}" ] || rm -rf -- "$folder"
}

signal() {
    if [ -z "$broker" ]; then
        fail 'the broker is not running'
    elif kill "-$1" "$broker"; then
        say ok
    else
        fail "no signal $1 for the broker"
    fi
}

control() {
    # Bounded, because a frozen broker never answers.
    timeout --kill-after=5 60 "$server/rabbitmqctl" -q "$@" >"$folder/ctl" 2>&1 </dev/null
    local code=$?
    sed 's/^/| /' "$folder/ctl"
    if [ "$code" -eq 0 ]; then say ok; else fail "rabbitmqctl ended with $code"; fi
}

trap 'exit 1' HUP INT TERM PIPE
trap clean EXIT

if ! write_files; then
    fail "cannot make the folder $folder"
    exit 1
fi
made=yes
# Started here, or the VM would leave a daemon of its own behind.
epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" >>"$folder/log/out" 2>&1 </dev/null &
epmd=$!
if ! boot; then
    log_tail
    fail 'the broker did not start'
    exit 1
fi
say ready

while IFS=$'\t' read -r -a words; do
    case "${words[0]:-}" in
        kill)
            if [ -n "$broker" ]; then
                crash
                say ok
            else
                fail 'the broker is not running'
            fi
            ;;
        start)
            if [ -n "$broker" ]; then
                fail 'the broker is running'
            elif boot; then
                say ok
            else
                log_tail
                fail 'the broker did not start'
            fi
            ;;
        stop) signal STOP ;;
        cont) signal CONT ;;
        ctl) control "${words[@]:1}" ;;
        pids) printf '| %s\nok\n' "$broker $epmd" ;;
        *) fail "no such command: ${words[0]:-}" ;;
    esac
done
