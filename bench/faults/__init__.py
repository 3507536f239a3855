"""The faults that stock Dramatiq does not survive, done to it and to GoQueue in turn."""
