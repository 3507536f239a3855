"""The REST API: a Falcon application over the store. `app.py` is the route table."""
