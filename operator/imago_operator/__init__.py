"""The Kopf operator that provides each `ImagoClient` with an API key, quotas and, on request, a dedicated lane."""
