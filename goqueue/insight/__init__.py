"""The insight that GoQueue gives: explanations, figures, counted steps of time, failures, workers needed."""
