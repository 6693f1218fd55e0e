#!/bin/sh
# Installs the Kedge agent from a folder, an unpacked kit or a web server, and says what it did. Safe to run again.
#
#   install.sh [--from DIR|URL] [--sha256 HEX] [--key FILE] [--root-sha256 HEX] [--set NAME=VALUE]... [--values FILE] [--no-deploy] [--force]
#
#   --from DIR|URL      where SHA256SUMS and the packages are: this script's own folder
#   --sha256 HEX        SHA-256 that SHA256SUMS must have, as the vendor told you by another way
#   --key FILE          the vendor's public key (PEM, ed25519), as you had it by another way: SHA256SUMS.sig must be its signature
#   --root-sha256 HEX   fingerprint of the vendor's root of trust: the bundle beside this script is deployed under it
#   --set NAME=VALUE    a parameter of the product; may be repeated. For secrets use --values: arguments can be seen
#   --values FILE       parameters, NAME=VALUE a line
#   --no-deploy         install only
#   --force             go on where `kedge doctor` finds something that will not work
#
# Nothing of what it fetches or finds is run before it has the sums that SHA256SUMS says, and SHA256SUMS is what --sha256 or --key
# says. From a web server one of these is asked for; in a folder that you brought yourself it is yours to say.
set -eu
umask 022

from=
sha256=
key=
root_sha256=
deploy=yes
force=
values=$(mktemp)
work=
did=
clean_up() { rm -f "$values"; [ -z "$work" ] || rm -rf "$work"; }
trap clean_up EXIT
trap 'exit 130' INT TERM

say() { printf 'install.sh: %s\n' "$*"; }
die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
done_() { did="$did
  - $*"; }
have() { command -v "$1" >/dev/null 2>&1; }

while [ $# -gt 0 ]; do
  case $1 in
    --from) from=${2:?}; shift ;;
    --sha256) sha256=${2:?}; shift ;;
    --key) key=${2:?}; shift ;;
    --root-sha256) root_sha256=${2:?}; shift ;;
    --values) cat "${2:?}" >>"$values"; echo >>"$values"; shift ;;
    --set) printf '%s\n' "${2:?}" >>"$values"; shift ;;
    --no-deploy) deploy= ;;
    --force) force=yes ;;
    *) sed -n '2,19s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
  shift
done

[ "$(id -u)" -eq 0 ] || die 'installing takes root: run it with sudo'
[ -d /run/systemd/system ] || die 'this host does not run systemd; see docs/installing.md for hosts without it'
[ "$(uname -m)" = x86_64 ] || die "there are packages for x86_64 only, and this is $(uname -m)"
have sha256sum || die 'sha256sum is missing (coreutils)'

# fetch NAME: into the work folder, at most 1 GiB.
fetch() {
  case $1 in */* | .* | '') die "SHA256SUMS names $1, which is no plain file name" ;; esac
  curl --fail --silent --show-error --location --proto '=https,http' --max-filesize 1073741824 --output "$work/$1" "$from/$1"
}

[ -n "$from" ] || from=$(cd "$(dirname "$0")" && pwd)
case $from in
  http://* | https://*)
    have curl || die 'curl is missing'
    [ -n "$sha256$key" ] || die 'what comes from the network is verified first: give --sha256 or --key'
    work=$(mktemp -d)
    fetch SHA256SUMS
    [ -z "$key" ] || fetch SHA256SUMS.sig
    folder=$work
    ;;
  *) folder=$from ;;
esac
[ -f "$folder/SHA256SUMS" ] || die "there is no SHA256SUMS in $folder"

if [ -n "$sha256" ]; then
  found=$(sha256sum <"$folder/SHA256SUMS" | cut -d' ' -f1)
  [ "$found" = "$(printf %s "$sha256" | tr A-F a-f)" ] || die "SHA256SUMS has SHA-256 $found, which is not what you gave: do not use these files"
  say 'SHA256SUMS is the one that you were told of'
fi
if [ -n "$key" ]; then
  have openssl || die 'openssl is missing, which checks the signature; --sha256 does without it'
  [ -f "$folder/SHA256SUMS.sig" ] || die 'there is no SHA256SUMS.sig'
  openssl pkeyutl -verify -pubin -inkey "$key" -rawin -in "$folder/SHA256SUMS" -sigfile "$folder/SHA256SUMS.sig" >/dev/null 2>&1 ||
    die "SHA256SUMS is not signed by the key in $key (or this openssl is older than 3.0 and cannot tell): do not use these files"
  say "SHA256SUMS is signed by the key in $key"
fi
[ -n "$sha256$key" ] || say 'warning: neither --sha256 nor --key was given; who made these files is for you to know'

# newer ONE OTHER: whether ONE is a version, and newer. What a newer agent has written an older one may not read.
newer() {
  case $1 in [0-9]*) [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | tail -n 1)" = "$1" ] ;; *) return 1 ;; esac
}

# The kind of package this host takes.
if have dpkg && [ -e /var/lib/dpkg/status ]; then
  kind=deb
elif have rpm; then
  kind=rpm
else
  die 'this host has neither dpkg nor rpm; see docs/installing.md'
fi
case $kind in
  deb) package=$(sed -n 's/^[0-9a-f]\{64\}  \(kedge_[A-Za-z0-9.+~-]*_amd64\.deb\)$/\1/p' "$folder/SHA256SUMS" | sort -V | tail -n 1) ;;
  rpm) package=$(sed -n 's/^[0-9a-f]\{64\}  \(kedge-[0-9][A-Za-z0-9.+~-]*\.x86_64\.rpm\)$/\1/p' "$folder/SHA256SUMS" | sort -V | tail -n 1) ;;
esac
[ -n "$package" ] || die "SHA256SUMS names no .$kind of kedge"
bundle=
if [ -n "$deploy" ]; then bundle=$(sed -n 's/^[0-9a-f]\{64\}  \([A-Za-z0-9._+-]*\.kedge\)$/\1/p' "$folder/SHA256SUMS" | sort -V | tail -n 1); fi
# Of a folder everything that is there is looked at, though not all of it is used: one wrong file makes all of it suspect.
wrong=
[ -n "$work" ] || wrong=$(cd "$folder" && LC_ALL=C sha256sum --check --ignore-missing SHA256SUMS 2>/dev/null | sed -n 's/: FAILED.*//p' | tr '\n' ' ')
[ -z "$wrong" ] || die "${wrong% } is not what SHA256SUMS says: do not use these files"
for file in "$package" $bundle; do
  [ -z "$work" ] || fetch "$file"
  grep -F "  $file" "$folder/SHA256SUMS" | grep -x "[0-9a-f]\{64\}  $file" | (cd "$folder" && sha256sum --check --status -) ||
    die "$file is not what SHA256SUMS says: do not use these files"
done
say "$package${bundle:+ and $bundle} are what SHA256SUMS says"

case $kind in
  deb)
    wanted=$(dpkg-deb --field "$folder/$package" Version)
    # Not ${Status}, whose first word is what is wanted of it: one that is held is installed too.
    installed=$(dpkg-query --show --showformat '${db:Status-Status} ${Version}' kedge 2>/dev/null || true)
    if [ "$installed" = "installed $wanted" ]; then
      say "kedge $wanted is installed already"
    elif newer "${installed#installed }" "$wanted"; then
      say "kedge ${installed#installed } is installed, which is newer than $wanted, and stays"
    else
      # A configuration that was changed here is kept.
      DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold --install "$folder/$package" >&2
      done_ "installed kedge $wanted"
    fi
    ;;
  rpm)
    wanted=$(rpm --query --package --queryformat '%{VERSION}-%{RELEASE}' "$folder/$package" 2>/dev/null)
    installed=$(rpm --query --queryformat '%{VERSION}-%{RELEASE}' kedge 2>/dev/null) || installed=
    if [ "$installed" = "$wanted" ]; then
      say "kedge $wanted is installed already"
    elif newer "$installed" "$wanted"; then
      say "kedge $installed is installed, which is newer than $wanted, and stays"
    else
      rpm --upgrade "$folder/$package" >&2
      done_ "installed kedge $wanted"
    fi
    ;;
esac
for unit in kedge.socket kedge.service; do
  systemctl --quiet is-enabled "$unit" 2>/dev/null || { systemctl --quiet enable "$unit"; done_ "enabled $unit"; }
  systemctl --quiet is-active "$unit" || { systemctl start "$unit"; done_ "started $unit"; }
done

if ! kedge doctor; then
  [ -n "$force" ] || die 'mend what is BAD above and run this again, or give --force; the agent is installed and waits'
fi

if [ -n "$bundle" ]; then
  if [ -z "$root_sha256" ]; then
    say "to deploy: kedge import $folder/$bundle --root-sha256 HEX, with the fingerprint that the vendor told you"
  else
    set -- --root-sha256 "$root_sha256"
    [ ! -s "$values" ] || set -- "$@" --values "$values"
    said=$(kedge import "$folder/$bundle" "$@")
    printf '%s\n' "$said"
    case $said in *' is active already'*) ;; *) done_ "deployed $bundle" ;; esac
  fi
fi
[ -n "$did" ] || did='
  - nothing: all was so already'
say "done:$did"
