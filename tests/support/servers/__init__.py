"""Servers that tests start, put together, cut off or let refuse."""
