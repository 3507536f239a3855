"""Recording: outcomes of attempts, and what running jobs tell of themselves, become rows."""
