"""The settings, what they may say, and what every reader of GoQueue can read.

Only `settings.py` reads the environment.
"""
