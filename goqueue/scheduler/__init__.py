"""The skeleton of all background roles, those of no one feature, and the process that runs them."""
