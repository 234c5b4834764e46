"""Resumable sharded work over a list of items; it knows neither tokens nor models."""
