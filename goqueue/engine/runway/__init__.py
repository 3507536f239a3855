"""The runway: the few Redis keys that carry ids of jobs that may start now. It may be wiped at any time."""
