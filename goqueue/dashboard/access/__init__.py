"""Who may look and who may change: sessions, and the guard before every page."""
