#!/bin/sh
# Makes the environment /opt/imago of an image, from a lock file and the wheel in /dist; the Dockerfile runs it.
#
# There is no pip in it, since what runs has no need of one. The bytecode is checked against nothing and depends on the
# sources' contents alone, not on their times, so that two builds are equal.
set -eu
target=${TARGET:-/opt/imago} build=${BUILD:-/opt/build} wheels=${WHEELS:-/dist}
"$build/bin/python" -m venv --without-pip "$target"
install() { "$build/bin/python" -m pip --python "$target/bin/python" install --no-deps "$@"; }
install --require-hashes -r "$1"
install --no-index "$wheels"/*.whl
"$target/bin/python" -m compileall -q --invalidation-mode unchecked-hash "$target/lib"
