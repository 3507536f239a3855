"""Mutations: each switches one promise off in the process that loads it, and the checker must notice."""
