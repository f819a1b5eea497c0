#!/bin/sh
# Start Redis as workers need it, with the users of users.acl. Arguments are redis-server's own.
# The passwords come by the environment, and go on as hashes in a file in memory: every process can
# read a command line.
set -eu
umask 077
users=${TMPDIR:-/tmp}/users.acl

hash() { printf %s "$1" | sha256sum | cut -c 1-64; }

sed -e "s/@OPERATOR@/#$(hash "$REDIS_PASSWORD")/" \
    -e "s/@WORKER@/#$(hash "$REDIS_WORKER_PASSWORD")/" \
    -e "s/@CLIENT@/#$(hash "$REDIS_CLIENT_PASSWORD")/" \
    -e "s/@GATEWAY@/#$(hash "$REDIS_GATEWAY_PASSWORD")/" \
    -e "s/@EXPORTER@/#$(hash "$REDIS_EXPORTER_PASSWORD")/" \
    -e "s/@TENANT@/${MEDGEMMA_TENANT:-local}/g" "$(dirname "$0")/users.acl" |
    awk '/^#/ || /^$/ {next} /^user/ && n++ {print ""} {$1 = $1; printf "%s ", $0} END {print ""}' > "$users"

exec redis-server --aclfile "$users" --appendonly yes --appendfsync everysec \
    --maxmemory-policy noeviction --save '' "$@"
