"""The options of a job and of its type: payloads, settings, uniqueness, and how types are declared."""
