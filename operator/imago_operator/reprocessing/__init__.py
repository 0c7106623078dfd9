"""ImagoReprocess: a resource that stands for a reprocess job."""
