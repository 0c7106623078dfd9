"""The measurements, one a module; each is a function that takes the `Bench` and adds to its report."""
