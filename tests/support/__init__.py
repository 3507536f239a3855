"""Holds what several tests stand on; README.md beside it is the map."""
