# A Docker engine for the scripts of this repository, which source this file: `engine_ready` makes sure that one
# answers, `engine_stop` ends it again if it was started here by hand.
#
# The engine that answers is used. Else, as root on Debian, Docker is installed and started; by hand where there is no
# systemd. Else `engine_advice` says what to do.
# shellcheck shell=bash

engine_pid=
engine_log=
engine_advice=

can_install() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1 && grep -qE '^ID(_LIKE)?=.*(debian|ubuntu)' /etc/os-release; }

install_packages() {
  DEBIAN_FRONTEND=noninteractive apt-get -qq update &&
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "$@" >/dev/null
}

engine_answers() { command -v docker >/dev/null 2>&1 && docker version >/dev/null 2>&1; }

engine_ready() {
  engine_answers && return 0
  if ! can_install; then
    if command -v docker >/dev/null 2>&1; then
      engine_advice='Docker is installed and no engine answers. Start it (systemctl start docker), and be root or in the group docker.'
    else
      engine_advice='there is no Docker engine. Install one (on Debian: apt-get install docker.io) and be root or in the group docker.'
    fi
    return 1
  fi
  if ! command -v dockerd >/dev/null 2>&1; then
    echo '== installing Docker' >&2
    # iptables is only a recommendation of the package, and no container has a network without it.
    install_packages docker.io iptables ca-certificates || { engine_advice='Docker could not be installed: see above.'; return 1; }
  fi
  if [ -d /run/systemd/system ]; then
    systemctl start docker || { engine_advice='the engine does not start: see journalctl -u docker.'; return 1; }
  elif ! engine_answers; then
    engine_start_by_hand || return 1
  fi
  engine_answers || { engine_advice='the engine was started and does not answer: see its log.'; return 1; }
}

# Without systemd: dockerd as a child of this script, out of reach of the terminal's Ctrl-C until `engine_stop`.
engine_start_by_hand() {
  echo '== starting dockerd' >&2
  engine_log=$(mktemp)
  setsid dockerd >"$engine_log" 2>&1 &
  engine_pid=$!
  for _ in $(seq 300); do
    if engine_answers; then return 0; fi
    kill -0 "$engine_pid" 2>/dev/null || break
    sleep 0.2
  done
  engine_advice="the engine does not start; the end of its log: $(tail -n 3 "$engine_log")"
  return 1
}

engine_stop() {
  [ -n "$engine_pid" ] || return 0
  kill "$engine_pid" 2>/dev/null || true
  wait "$engine_pid" 2>/dev/null || true
  rm -f "$engine_log"
  engine_pid=
}
