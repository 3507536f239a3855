"""`python -m bench` measures GoQueue beside bare Dramatiq; `python -m bench.faults` breaks both."""
