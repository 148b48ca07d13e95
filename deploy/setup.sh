#!/usr/bin/env bash
# Installs what a Debian lacks to build and run jobctl: a C compiler, certificates, Postgres 15 or newer.
#
#   deploy/setup.sh          for `make demo`
#   deploy/setup.sh test     Chromium and a font as well, for the tests that open reports, and libfaketime for the wrong clocks,
#                            Python's venv for an S3 server and for what judges a page
#   deploy/setup.sh bench    Python's venv as well
#
# Says what it installs; where nothing is missing it says nothing and needs no rights. Starts no server: the package's
# default cluster is not made, because jobctl keeps a Postgres of its own.
set -euo pipefail

say() { echo "setup: $*" >&2; }
fail() {
  say "$*"
  exit 1
}
has() { command -v "$1" >/dev/null; }

[[ $# -le 1 && ${1:-} =~ ^(|test|bench)$ ]] || fail "usage: deploy/setup.sh [test|bench]"
has cargo || fail "there is no Rust: see https://rustup.rs"

newest_postgres() {
  local folder newest=0
  if has pg_config && [[ -x $(pg_config --bindir)/initdb ]]; then
    pg_config --version | sed -E 's/[^0-9]*([0-9]+).*/\1/'
    return
  fi
  for folder in /usr/lib/postgresql/*/bin; do
    [[ -x $folder/initdb && -x $folder/pg_ctl ]] || continue
    folder=${folder%/bin}
    ((${folder##*/} <= newest)) || newest=${folder##*/}
  done
  echo "$newest"
}

# Postgres refuses root; then the package's user runs it.
has_server_user() { [[ $(id -u) -ne 0 ]] || id postgres >/dev/null 2>&1; }

missing=()
need() { missing+=("$@"); }
# The C runtime's headers come with a compiler only where recommended packages are installed.
{ has cc && [[ -e /usr/include/stdio.h ]]; } || need gcc libc6-dev
[[ -s /etc/ssl/certs/ca-certificates.crt ]] || need ca-certificates
{ (($(newest_postgres) >= 15)) && has psql && has_server_user; } || need postgresql
case ${1:-} in
  test)
    has chromium || need chromium
    [[ -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ]] || need fonts-dejavu-core
    python3 -c "import ensurepip, venv" 2>/dev/null || need python3-venv
    compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || need libfaketime
    ;;
  bench) python3 -c "import ensurepip, venv" 2>/dev/null || need python3-venv ;;
esac
((${#missing[@]} > 0)) || exit 0

say "missing: ${missing[*]}"
has apt-get || fail "this is no Debian: install them, or their like, by hand"
as_root=()
if [[ $(id -u) -ne 0 ]]; then
  by_hand="apt-get install ${missing[*]}"
  has sudo || fail "this needs root, and there is no sudo; let root run \"$by_hand\""
  sudo -n true 2>/dev/null || [[ -t 0 ]] || fail "sudo wants a password; run \"sudo $by_hand\" first"
  as_root=(sudo)
fi
root() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"; }

if [[ " ${missing[*]} " == *" postgresql "* ]]; then
  no_cluster=/etc/postgresql-common/createcluster.d/jobctl.conf
  root mkdir -p "${no_cluster%/*}"
  trap 'root rm -f "$no_cluster"' EXIT
  echo "create_main_cluster = false" | root tee "$no_cluster" >/dev/null
fi
say "updating apt's package lists"
root apt-get -qq update || fail "apt-get update failed: is the network there?"
say "installing ${missing[*]}"
root apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install --no-install-recommends -y "${missing[@]}" >/dev/null \
  || fail "apt-get could not install ${missing[*]}"
(($(newest_postgres) >= 15)) || fail "this Debian has Postgres $(newest_postgres), and jobctl needs 15: take Debian 12 or newer"
say "done"
