"""The history of the schema, run by Alembic. `goqueue migrate` calls `upgrade`."""
