#!/usr/bin/env bash
# Puts Debian's prometheus and promtool into the cache directory for the tests of metrics, alert rules and dashboards. The
# package is not installed, because it would start a server and keep it running.
set -euo pipefail

readonly TARGET=${XDG_CACHE_HOME:-$HOME/.cache}/imago/prometheus

if command -v promtool >/dev/null && command -v prometheus >/dev/null; then exit 0; fi
if [[ -x $TARGET/promtool && -x $TARGET/prometheus ]]; then exit 0; fi
command -v apt-get >/dev/null || { echo "prometheus: install prometheus and promtool manually, on the PATH" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# If the package lists are missing (a fresh container), only root can fetch them.
download() { (cd "$work" && apt-get download -qq prometheus >/dev/null 2>&1); }
download || { [[ $(id -u) -eq 0 ]] && apt-get update -qq >/dev/null && download; } || {
  echo "prometheus: apt-get can't download the package" >&2
  exit 1
}
dpkg-deb -x "$work"/prometheus_*.deb "$work/unpacked"
mkdir -p "$TARGET"
# Rename complete files, because two setups may run concurrently.
for program in prometheus promtool; do
  cp "$work/unpacked/usr/bin/$program" "$TARGET/.$program.$$"
  mv "$TARGET/.$program.$$" "$TARGET/$program"
done
