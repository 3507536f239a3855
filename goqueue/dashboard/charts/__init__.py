"""The charts of pages, each computed from figures to positions that a template draws."""
