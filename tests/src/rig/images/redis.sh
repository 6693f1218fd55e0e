#!/bin/sh
# The entry point of the rig's Redis image: as root, hands the data to the unprivileged user and becomes it.
set -eu
[ "$1" = redis-server ] || exec "$@"

if [ "$(id -u)" = 0 ]; then
    chown -R redis:redis /data
    # By its path: the shell would take its own applet of that name, which cannot do this.
    exec /usr/bin/setpriv --reuid=redis --regid=redis --clear-groups "$0" "$@"
fi
shift
# Left on, protected mode refuses every client from another container; the official image has it off, too.
exec redis-server --protected-mode no "$@"
