"""Jobs, and what is kept of them, in partitions by ranges of ids: how they are made, and dropped when old.

`switch` turns it on beside whatever runs, `keeper` goes on from there. docs/partitions.md tells the rest.
"""
