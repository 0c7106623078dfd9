#!/usr/bin/env bash
# Runs the linters and all tests for `make ci`, after the setup. Missing parts of the test cluster are built concurrently; the
# first build takes half an hour and is cached.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p build
# A separate process group, so that it can be killed as a whole; at low priority, because some tests have deadlines.
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
# Whatever `make setup` installs must be there: a test that was skipped has checked nothing.
IMAGO_NO_SKIPS=1 timed test
timed bench-check
timed test-faults
printf 'ci: waiting for the parts of the test cluster (build/cluster-prepare.log)\n'
# If the build failed, the tests that need it are skipped or fail; the log has the reason.
wait "$preparing" || { printf 'ci: they could not be built; the last lines of the log:\n'; tail -n 20 build/cluster-prepare.log; }
timed test-cluster
