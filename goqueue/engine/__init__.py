"""A job's life: what it may be, how it becomes a row, how its state changes, and how it is found.

No HTTP, no Dramatiq worker.
"""
