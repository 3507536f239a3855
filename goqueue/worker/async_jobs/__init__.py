"""Async job types: their attempts run as tasks of the event loop of their process, and hold no thread."""
