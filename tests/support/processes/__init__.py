"""GoQueue as processes of its own."""
