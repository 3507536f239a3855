"""All SQL, a module a noun. Every transition of a job's state is one function here, one guarded statement."""
