"""Kopf's settings and log records."""

import logging

from imago_operator.main import ObjectNames, build_kopf_settings


def test_the_names_that_kopf_stores_in_resources_do_not_change() -> None:
    persistence = build_kopf_settings().persistence
    assert persistence.finalizer == "imago.dev/finalizer"
    for storage in (persistence.progress_storage, persistence.diffbase_storage):
        assert storage.prefix == "operator.imago.dev"  # type: ignore[attr-defined]


def test_kopfs_log_records_about_a_resource_name_it() -> None:
    record = logging.LogRecord("kopf.objects", logging.INFO, "", 0, "Patching failed", None, None)
    record.k8s_ref = {"namespace": "photos", "name": "atelier"}
    assert ObjectNames().filter(record)
    assert ObjectNames().filter(record)
    assert record.getMessage() == "[photos/atelier] Patching failed"
