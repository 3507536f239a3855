"""The worker processes in the record: their rows, their leases, and what they are told."""
