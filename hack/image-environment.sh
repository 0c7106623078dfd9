#!/bin/sh
# Creates the environment /opt/imago of an image from a lock file and the wheel in /dist; the Dockerfile runs it.
#
# The environment has no pip, because Imago doesn't need one. The bytecode is unchecked and depends only on the contents of
# the sources, not on their times, so that two builds are equal.
set -eu
target=${TARGET:-/opt/imago} build=${BUILD:-/opt/build} wheels=${WHEELS:-/dist}
"$build/bin/python" -m venv --without-pip "$target"
install() { "$build/bin/python" -m pip --python "$target/bin/python" install --no-deps "$@"; }
install --require-hashes -r "$1"
install --no-index "$wheels"/*.whl
"$target/bin/python" -m compileall -q --invalidation-mode unchecked-hash "$target/lib"
