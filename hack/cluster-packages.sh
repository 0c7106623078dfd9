#!/usr/bin/env bash
# Installs missing Debian packages for the test cluster, as root or with passwordless sudo.
set -euo pipefail

readonly PACKAGES=(
  busybox-static conntrack containerd containernetworking-plugins debootstrap iproute2 iptables runc
)

say() { printf 'cluster-packages: %s\n' "$*" >&2; }

installed() { dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null | grep -q '^ii'; }

# Several of these packages start a service when they are installed, unless this file forbids it.
forbid_services() {
  local policy=/usr/sbin/policy-rc.d
  [[ -e $policy ]] && return
  printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
  "${sudo[@]}" chmod 755 "$policy"
  # shellcheck disable=SC2064
  trap "${sudo[*]} rm -f $policy" EXIT
}

main() {
  command -v dpkg-query >/dev/null || { say "not a Debian system: install ${PACKAGES[*]} manually"; return; }
  local missing=() package
  sudo=()
  for package in "${PACKAGES[@]}"; do installed "$package" || missing+=("$package"); done
  [[ ${#missing[@]} -eq 0 ]] && return
  if [[ $(id -u) -ne 0 ]]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo=(sudo -n); else
      say "install as root: apt-get install ${missing[*]}"
      return
    fi
  fi
  say "installing ${missing[*]}"
  forbid_services
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

main
