"""Contents of jobs: how they are encrypted at rest, and which fields nobody but a worker sees."""
