#!/usr/bin/env bash
# A local kind cluster with KEDA; needs docker, kind, kubectl and helm.
#   hack/kind.sh up        creates the cluster, builds and loads the images, installs KEDA and the chart
#   hack/kind.sh load      rebuilds and reloads the images and restarts the Deployments
#   hack/kind.sh down      removes the cluster with everything in it
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CLUSTER=imago KEDA_VERSION=2.20.1
readonly CONTEXT=kind-$CLUSTER
fail() { printf 'kind: %s\n' "$*" >&2; exit 1; }
need() { local tool; for tool in "$@"; do command -v "$tool" >/dev/null || fail "$tool is required"; done; }

load() {
  make --no-print-directory images
  local version
  version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
  kind load docker-image --name "$CLUSTER" localhost/imago-{api,worker-exif,worker-ocr,worker-vision,operator}:"$version"
}

up() {
  kind get clusters | grep -qx "$CLUSTER" || kind create cluster --config k8s/kind.yaml --wait 120s
  helm --kube-context "$CONTEXT" upgrade --install keda keda --repo https://kedacore.github.io/charts \
    --version "$KEDA_VERSION" --namespace keda --create-namespace --wait
  load
  helm --kube-context "$CONTEXT" upgrade --install imago charts/imago --namespace imago --create-namespace \
    --values charts/imago/ci/quickstart-values.yaml --values k8s/kind-values.yaml --wait --timeout 10m
  echo "the API is at http://localhost:8000"
}

case ${1:-} in
  up) need docker kind kubectl helm; up ;;
  load)
    need docker kind kubectl
    load
    kubectl --context "$CONTEXT" --namespace imago rollout restart deployment
    ;;
  down) need kind; kind delete cluster --name "$CLUSTER" ;;
  *) fail "usage: hack/kind.sh up|load|down" ;;
esac
