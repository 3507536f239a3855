"""The server of the API: one loop reads requests and writes answers, and threads get only whole requests."""
