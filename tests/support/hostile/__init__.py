"""Values that do harm to whoever does not expect them."""
