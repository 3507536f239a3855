"""The frame around every request: bodies, errors, keys, limits, pages, and the description of the API."""
