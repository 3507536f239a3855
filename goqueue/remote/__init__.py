"""Workers outside of GoQueue: they lease jobs over HTTP, and say what became of them."""
