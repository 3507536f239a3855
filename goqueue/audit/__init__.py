"""The audit log: who changed what, from where, when and why, in rows that nobody changes or deletes."""
