"""The dashboard: pages over the store's reads, rendered on the server. No SQL here."""
