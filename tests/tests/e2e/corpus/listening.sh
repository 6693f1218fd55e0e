#!/bin/sh
# Stands in for the clients that health checks run, called by their names: well if the server listens, which the kernel knows.
port=${0##*/}
case $port in
  pg_isready) port=5432 ;;
  mysqladmin | mysql | mariadb) port=3306 ;;
  redis-cli) port=6379 ;;
  mongo | mongosh) port=27017 ;;
  sqlcmd) port=1433 ;;
  curl)
    for word in "$@"; do case $word in -*) ;; *) url=$word ;; esac done
    url=${url#*://} url=${url%%/*} port=80
    case $url in *:*) port=${url##*:} ;; esac
    ;;
  *) echo "$port is nobody's client" >&2; exit 2 ;;
esac
exec grep -qi "$(printf ':%04X 0*:0000 0A' "$port")" /proc/net/tcp /proc/net/tcp6
