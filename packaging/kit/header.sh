#!/bin/sh
# A kit: everything that it takes to install the Kedge agent and a product on a host without a network, in one file.
#
#   sudo sh THIS-FILE --root-sha256 HEX        unpack, verify, install, deploy; flags are those of install.sh
#   sh THIS-FILE --unpack DIR                  unpack only; DIR/README says what is in it
#
# First compare `sha256sum THIS-FILE` with what the vendor told you by another way.
set -eu
# Where the archive begins, in lines.
lines=@LINES@
if [ "${1:-}" = --unpack ]; then
  to=${2:?a folder}
  mkdir -p "$to"
  tail -n "+$lines" "$0" | tar -x -f - -C "$to"
  exit 0
fi
to=$(mktemp -d "${TMPDIR:-/var/tmp}/kedge-kit.XXXXXX")
trap 'rm -rf "$to"' EXIT
trap 'exit 130' INT TERM
tail -n "+$lines" "$0" | tar -x -f - -C "$to"
sh "$to/install.sh" "$@"
exit
