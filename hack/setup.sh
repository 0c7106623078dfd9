#!/usr/bin/env bash
# Creates .venv and installs the dependencies; exits immediately if they are up to date.
#
# The stamp is written last and contains a checksum of the inputs, so the next run repeats an interrupted setup and notices a
# changed lock file.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

readonly STAMP=.venv/.imago-setup
readonly PACKAGES=(tesseract-ocr tesseract-ocr-fra tesseract-ocr-eng postgresql libimage-exiftool-perl fonts-dejavu-core
  linux-libc-dev)

fingerprint() {
  cat pyproject.toml requirements/dev.lock hack/setup.sh hack/prometheus.sh services/imago/core/images/recognition/concept_names.txt \
    services/imago/ai/offline/meaning/*.txt
  printf '%s\n' "$PWD" "${PYTHON:-}"
}

# System packages for tests and OCR.
installed() { dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null | grep -q '^ii'; }

install_system_packages() {
  if [[ $(uname) == Darwin ]]; then
    command -v tesseract >/dev/null || say "install Tesseract: brew install tesseract tesseract-lang"
    return
  fi
  command -v dpkg-query >/dev/null || { say "install Tesseract with fra and eng, and PostgreSQL, manually"; return; }
  local missing=() package
  for package in "${PACKAGES[@]}"; do installed "$package" || missing+=("$package"); done
  [[ ${#missing[@]} -eq 0 ]] && return
  local sudo=()
  if [[ $(id -u) -ne 0 ]]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo=(sudo -n); else
      say "install as root: apt-get install ${missing[*]}"
      return
    fi
  fi
  say "installing ${missing[*]}"
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null
  # PostgreSQL's package creates and starts a server on the default port; the tests start their own servers.
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3.14 python3 python}; do
    command -v "$candidate" >/dev/null || continue
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "Python 3.11 to 3.14 is required; set PYTHON=/path/to/python"
}

make_environment() {
  local python
  python=$(find_python)
  if [[ ! -x .venv/bin/python ]] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    rm -rf .venv
    say "creating .venv with $("$python" --version)"
    "$python" -m venv .venv || {
      rm -rf .venv
      fail "this Python can't create virtual environments; on Debian: apt-get install python3-venv"
    }
  fi
  # --no-deps, because the lock is complete: otherwise pip would resolve `google-auth[requests]`, which has no exact version,
  # to a release newer than the lock, and reject it without a hash.
  say "installing the locked packages (a few minutes the first time)"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.lock
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
}

main() {
  # Concurrent setups would overwrite each other's files.
  exec 9>.setup.lock
  if command -v flock >/dev/null; then flock 9; fi
  local current
  current=$(fingerprint | cksum)
  if [[ -f $STAMP && $(<"$STAMP") == "$current" ]]; then return; fi
  rm -f "$STAMP"
  install_system_packages
  make_environment
  hack/prometheus.sh || say "no Prometheus: its tests are skipped"
  say "preparing the offline vision models"
  .venv/bin/python -m imago.ai.offline.models >/dev/null \
    || say "images are described without it; to try again: .venv/bin/python -m imago.ai.offline.models"
  say "preparing the file of places"
  .venv/bin/python -m imago.geocoding.build >/dev/null \
    || say "images are shown without places; to try again: .venv/bin/python -m imago.geocoding.build"
  say "preparing search by meaning (a minute)"
  .venv/bin/python -m imago.ai.offline.meaning.vectors >/dev/null
  printf '%s' "$current" >"$STAMP"
  say "done"
}

main
