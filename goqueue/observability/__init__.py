"""How processes tell what they do: log lines, metrics and their ports, alert rules, traces."""
