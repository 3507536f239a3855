"""What applications do beside creating jobs; the API does the same: each module an operation on some noun."""
