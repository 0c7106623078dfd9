#!/usr/bin/env bash
# What `make ci` runs, after the set-up: the linters and all tiers of tests. What the cluster tier needs is built meanwhile
# where it isn't there yet: half an hour once, then kept in the cache.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p build
# A group of its own, to be ended as a whole; behind the tests, some of which have deadlines.
set -m
PYTHONPATH=. nice -n 19 .venv/bin/python hack/cluster.py prepare >build/cluster-prepare.log 2>&1 &
preparing=$!
set +m
trap 'kill -- -$preparing 2>/dev/null || true' EXIT

timed() {
  local began=$SECONDS
  make "$1"
  printf 'ci: %s took %d s\n' "$1" $((SECONDS - began))
}

timed lint
timed test
timed test-faults
printf 'ci: waiting for the parts of the cluster (build/cluster-prepare.log)\n'
# Without them the tier skips what needs them, or fails: either way the reason is in this log.
wait "$preparing" || { printf 'ci: they could not be made, the last lines say why:\n'; tail -n 20 build/cluster-prepare.log; }
timed test-cluster
