"""How requests come in and answers go out: one loop reads and writes, and threads get only whole requests."""
