"""The application that gunicorn serves, `gunicorn goqueue.wsgi:app`: the API, and the dashboard beside it."""

import sys

from goqueue.api.app import create_app
from goqueue.config.settings import get_settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.observability.tracing.export import start_tracing

# While one thread makes a page, which takes some ten milliseconds of Python, another that creates a job needs
# its turn after each answer of PostgreSQL and Redis. Python's own five milliseconds a turn would add up.
sys.setswitchinterval(0.0005)

settings = get_settings()
start_tracing(settings, "api")
app = create_app(settings, site=DASHBOARD if settings.dashboard else None)
