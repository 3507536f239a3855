"""Handlers that run in child processes of a worker: `@goqueue.actor(process=True)`."""
