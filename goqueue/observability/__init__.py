"""Observability of processes: log lines, metrics and their ports, alert rules, traces."""
