"""PostgreSQL: its connections, what its errors mean, how statements are run, and the tables."""
