"""The load test: many jobs of many kinds through the REST API, every one of them counted."""
