"""Load, history and verdict of the runs in which things break."""
