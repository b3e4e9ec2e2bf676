#!/usr/bin/env bash
# Installs Headroom on a Debian or Ubuntu host, from a checkout, as root:
#   deploy/host/install.sh agent|master|nightly [CHECKOUT]
# What it does can be done twice: each time is a fresh release, what runs keeps its own. It starts
# nothing: the last lines say what is left to do.
set -euo pipefail
umask 022 # the code is for everybody to read; keys and results have modes of their own

role="${1:-}"
source_folder="$(cd "${2:-$(dirname "$0")/../..}" && pwd)"
case "$role" in
  agent | master | nightly) ;;
  *)
    echo "usage: $0 agent|master|nightly [CHECKOUT]" >&2
    exit 2
    ;;
esac
if [ "$(id -u)" -ne 0 ]; then
  echo "$0: must be run as root" >&2
  exit 2
fi

apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
  python3 python3-venv python3-dev gcc libc6-dev

id headroom >/dev/null 2>&1 ||
  useradd --system --home-dir /var/lib/headroom --shell /usr/sbin/nologin headroom

# Built beside the one in use, then switched to in one step: no module of an older release stays
# among the new ones (agents and master compare their code), and what fails half-way changes nothing.
releases=/opt/headroom-releases
release="$releases/$(date --utc +%Y%m%dT%H%M%S.%NZ)"
install -d "$release"
trap 'rm --recursive --force "$release"' EXIT
for part in pyproject.toml README.md build-requirements.in loadtests analysis protos scenarios deploy; do
  cp --recursive "$source_folder/$part" "$release/"
done
rm --recursive --force "$release/loadtests/engine/_compiled" # made on another system, perhaps
python3 -m venv "$release/.venv"
"$release/.venv/bin/python" -m pip install --quiet --require-hashes \
  --requirement "$release/deploy/requirements.lock"
"$release/.venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation \
  --editable "$release"
"$release/.venv/bin/python" -m loadtests.compiled || # 3 without a compiler
  echo "$0: engines of this host take more CPU per request" >&2
# A folder of that name is an installation from before there were releases.
if [ -d /opt/headroom ] && [ ! -L /opt/headroom ]; then
  mv /opt/headroom "$releases/00000000-before"
fi
ln --symbolic --force --no-dereference "$release" "$releases/next"
mv --no-target-directory "$releases/next" /opt/headroom
trap - EXIT
# The release before this one stays, for what still runs from it.
find "$releases" -mindepth 1 -maxdepth 1 -type d | sort | head --lines=-2 |
  xargs --no-run-if-empty rm --recursive --force
ln --symbolic --force /opt/headroom/.venv/bin/headroom /usr/local/bin/headroom
install -m 0755 "$source_folder/deploy/host/as-headroom" /usr/local/sbin/as-headroom

install -d -m 0755 /etc/headroom
[ -e /etc/headroom/headroom.toml ] ||
  install -m 0644 "$source_folder/deploy/headroom.toml" /etc/headroom/headroom.toml
[ -e /etc/headroom/environment ] || install -m 0600 /dev/null /etc/headroom/environment
install -d -o headroom -g headroom -m 0750 /var/lib/headroom
install -d -o headroom -g headroom -m 0700 /var/lib/headroom/keys

install -m 0644 "$source_folder/deploy/host/90-headroom.conf" /etc/sysctl.d/90-headroom.conf
install -m 0644 "$source_folder/deploy/host/headroom.limits" /etc/security/limits.d/headroom.conf
sysctl --quiet --load=/etc/sysctl.d/90-headroom.conf

case "$role" in
  agent) units=(headroom-worker.service) ;;
  nightly)
    units=(headroom-nightly.service headroom-nightly.timer)
    units+=(headroom-nightly-check.service headroom-nightly-check.timer)
    ;;
  master) units=() ;;
esac
for unit in "${units[@]}"; do
  install -m 0644 "$source_folder/deploy/systemd/$unit" "/etc/systemd/system/$unit"
done
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi

echo "installed as $role. Left to do, see deploy/README.md:"
case "$role" in
  agent) echo "  keys, HEADROOM_MASTER in /etc/headroom/environment, systemctl enable --now headroom-worker" ;;
  nightly) echo "  /etc/headroom/nightly.toml, systemctl enable --now headroom-nightly.timer headroom-nightly-check.timer" ;;
  master) echo "  keys, /etc/headroom/headroom.toml" ;;
esac
