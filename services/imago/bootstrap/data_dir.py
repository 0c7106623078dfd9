"""Files that `imago dev` keeps in its data directory for the other commands."""

DEFAULT_CLIENT = "default-client.json"
SECRETS = "secrets.json"
