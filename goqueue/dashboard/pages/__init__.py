"""The pages: one module a page with its actions."""
