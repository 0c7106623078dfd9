"""The processes of Imago, composed from the settings: `api`, `worker`, and `dev`, which runs all of them."""
