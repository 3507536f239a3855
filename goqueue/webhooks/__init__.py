"""Webhooks: events delivered to receivers over HTTP, signed, in order where wanted, and written down."""
