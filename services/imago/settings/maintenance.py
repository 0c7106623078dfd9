"""Periodic maintenance tasks."""

from imago.settings.base import Seconds, SettingsGroup


class MaintenanceSettings(SettingsGroup):
    """Seconds between two runs of each task."""

    relay_interval: Seconds = 1.0
    reconcile_interval: Seconds = 15.0
    reprocess_interval: Seconds = 2.0
    """Reprocess jobs queue the images that are due."""
    sweep_interval: Seconds = 60.0
    audit_interval: Seconds = 6 * 3600.0
    """The audit compares all objects in storage with the database."""
    observe_interval: Seconds = 15.0
    """Queues, open jobs, finished images and quotas are read for the metrics."""
