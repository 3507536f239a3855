"""The same questions and jobs on a table of ten million jobs and on one of ten thousand."""
