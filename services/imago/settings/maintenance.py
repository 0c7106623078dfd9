"""Periodic maintenance tasks."""

from pydantic import Field

from imago.settings.base import SettingsGroup


class MaintenanceSettings(SettingsGroup):
    """Seconds between two runs of each task."""

    relay_interval: float = Field(1.0, gt=0)
    reconcile_interval: float = Field(15.0, gt=0)
    sweep_interval: float = Field(60.0, gt=0)
    audit_interval: float = Field(6 * 3600.0, gt=0)
    """The audit compares all objects in storage with the database."""
    observe_interval: float = Field(15.0, gt=0)
    """Queues, open jobs, finished images and quotas are read for the metrics."""
