# Creates the database at the first start, in a directory that is renamed at the end, so that an interrupted start is repeated.
set -eu
PATH="$PROGRAMS:$PATH" scratch=${TMPDIR:-/tmp}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  new="$PGDATA.new"
  rm -rf "$new" && mkdir -p "$new" && chmod 0700 "$new"
  umask 077
  printf '%s\n' "$SUPERUSER_PASSWORD" >"$scratch/superuser"
  initdb --pgdata="$new" --username=postgres --pwfile="$scratch/superuser" --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
  rm "$scratch/superuser"
  echo 'host all all all scram-sha-256' >>"$new/pg_hba.conf"
  postgres --single -D "$new" postgres >/dev/null <<SQL
CREATE ROLE imago LOGIN PASSWORD '$OWNER_PASSWORD';
CREATE ROLE imago_runtime LOGIN PASSWORD '$RUNTIME_PASSWORD';
CREATE DATABASE imago OWNER imago;
SQL
  mv "$new" "$PGDATA"
fi
unset SUPERUSER_PASSWORD OWNER_PASSWORD RUNTIME_PASSWORD
# Enough connections for the pools of all pods that KEDA may start.
exec postgres -D "$PGDATA" -c max_connections=300 -c listen_addresses='*' -c unix_socket_directories="$scratch"
