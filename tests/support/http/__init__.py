"""Clients of the REST API."""
