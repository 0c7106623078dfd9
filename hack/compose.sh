#!/usr/bin/env bash
# Runs hack/compose.yaml with the arguments of `docker compose`. The first run creates secrets in hack/.env (mode 0600):
#   hack/compose.sh up --build --detach
#   hack/compose.sh down            with --volumes it also deletes all data
set -euo pipefail
cd "$(dirname "$0")"

if [[ ! -e .env ]]; then
  umask 077
  for name in ADMIN_API_KEY JWT_SECRET_KEY API_KEY_PEPPER SUPERUSER_PASSWORD OWNER_PASSWORD RUNTIME_PASSWORD \
    NATS_PASSWORD S3_SECRET_KEY; do
    # Begin with a letter: NATS reads a value that begins with a digit as a number.
    printf '%s=k%s\n' "$name" "$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n')"
  done >.env.new
  mv .env.new .env
  echo "compose: wrote hack/.env; ADMIN_API_KEY in it is the administrator's key" >&2
fi
exec docker compose --file compose.yaml --env-file .env "$@"
