"""Browsers, pages and a furnished shop for the tests of the dashboard."""
