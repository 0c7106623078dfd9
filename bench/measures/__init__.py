"""The measurements, one per module: functions that add figures to the report of a `Bench`."""
