"""Who is signed in to the dashboard, and what the service signs with."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Identity, Index, Table, Text

from goqueue.db.tables.base import Timestamp, metadata, now

# What the processes of the service sign with, made by the first that needs it: nobody can derive it from the
# settings, and every process reads the same.
service_secrets = Table(
    "service_secrets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    now("created_at"),
)

# One row a browser that showed a key. The row is the session: without it a cookie opens nothing.
dashboard_sessions = Table(
    "dashboard_sessions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    # SHA-256 of the name in its cookie: who reads this table can sign in as nobody.
    Column("name_hash", Text, nullable=False, unique=True),
    # The hash of the key that was shown, as the settings have it: a key that is taken away ends its sessions.
    Column("key_hash", Text, nullable=False),
    Column("address", Text),
    Column("user_agent", Text),
    now("created_at"),
    Column("expires_at", Timestamp, nullable=False),
    Index("dashboard_sessions_expires_at_idx", "expires_at"),
)
