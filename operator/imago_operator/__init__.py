"""The Kopf operator that turns `ImagoClient` resources into API keys, quotas and priority streams."""
