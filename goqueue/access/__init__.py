"""Access: who may do what: API keys, the scopes they have, and what is withheld from whom."""
