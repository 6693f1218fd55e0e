#!/bin/sh
# The entry point of the rig's PostgreSQL image: the part of the official image's behaviour that the examples use.
# POSTGRES_USER, POSTGRES_DB, and POSTGRES_PASSWORD_FILE or POSTGRES_PASSWORD count at the first start only.
set -eu
user=${POSTGRES_USER:-postgres}
[ "$1" = postgres ] || exec "$@"

if [ "$(id -u)" = 0 ]; then
    if [ ! -s "$PGDATA/PG_VERSION" ]; then
        # Read while still root: the secret's file may be root's alone.
        [ -z "${POSTGRES_PASSWORD_FILE:-}" ] || POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
        export POSTGRES_PASSWORD="${POSTGRES_PASSWORD:?set POSTGRES_PASSWORD_FILE or POSTGRES_PASSWORD}"
    fi
    mkdir -p "$PGDATA" /run/postgresql
    chown postgres:postgres "$PGDATA" /run/postgresql
    # By its path: the shell would take its own applet of that name, which cannot do this.
    exec /usr/bin/setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi

chmod 700 "$PGDATA"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # Made in a folder of its own and moved, PG_VERSION last, so that being killed half-way means beginning again.
    new=$PGDATA/.new
    rm -rf "$new"
    find "$PGDATA" -mindepth 1 -maxdepth 1 ! -name .new ! -name lost+found -exec rm -rf {} +
    umask 077
    printf '%s\n' "$POSTGRES_PASSWORD" >/run/postgresql/password
    initdb --pgdata="$new" --username="$user" --pwfile=/run/postgresql/password \
        --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --no-locale --no-instructions --no-sync
    rm /run/postgresql/password
    echo 'host all all all scram-sha-256' >>"$new/pg_hba.conf"
    echo "listen_addresses = '*'" >>"$new/postgresql.conf"
    if [ "${POSTGRES_DB:-postgres}" != postgres ]; then
        echo "CREATE DATABASE \"$POSTGRES_DB\";" | postgres --single -D "$new" postgres
    fi
    find "$new" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv {} "$PGDATA/" \;
    sync -f "$PGDATA"
    mv "$new/PG_VERSION" "$PGDATA/"
    rmdir "$new"
    sync -f "$PGDATA"
fi
unset POSTGRES_PASSWORD
exec "$@"
