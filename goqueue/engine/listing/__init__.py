"""Listing jobs: what a filter says, as SQL and as a walk along an index."""
