"""Middlewares and signals that apply to every request, one concern per module."""
