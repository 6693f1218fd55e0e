#!/bin/sh
# Stands in for a server: listens on each port of STAND_IN_PORTS and says on each who it is. What it is told to run is ignored.
mkdir -p /tmp/www
echo "${HOSTNAME:-stand-in}" > /tmp/www/index.html
for port in $STAND_IN_PORTS; do httpd -p "$port" -h /tmp/www || exit 1; done
# As the first process of its container it would hear of no signal otherwise.
trap 'exit 0' TERM
sleep 86400 &
wait
