"""Types and workers outside of Python: declared over REST, leased over HTTP, and sent to URLs."""
