"""Rules that the code itself is held to."""
