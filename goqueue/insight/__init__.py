"""What GoQueue tells of itself: explanations, figures, counted steps of time, failures, workers needed."""
