"""Access to the dashboard: the sessions of browsers, and the guard before every page."""
