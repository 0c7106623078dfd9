"""What every process uses and no feature owns: startup, cancellation, fair shares, failpoints, package downloads."""
