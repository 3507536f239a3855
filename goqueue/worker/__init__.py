"""GoQueue's broker: Dramatiq's RedisBroker, extended so that PostgreSQL is the truth and Redis a runway."""
