"""Limits on how jobs are let in: concurrency, keys, fair share, rates, ramps, circuit breakers, pauses."""
