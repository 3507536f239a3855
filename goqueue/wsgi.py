"""The application that gunicorn serves, `gunicorn goqueue.wsgi:app`: the API, and the dashboard beside it."""

import sys

from goqueue.api.key_routing import create_key_router
from goqueue.api.routing import create_router
from goqueue.config.settings import get_settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.observability.tracing.export import start_tracing

# While one thread makes a page, which takes some ten milliseconds of Python, another that creates a job needs
# its turn after each answer of PostgreSQL and Redis. Python's own five milliseconds a turn would add up.
sys.setswitchinterval(0.0005)

settings = get_settings()
start_tracing(settings, "api")
site = DASHBOARD if settings.dashboard else None
app = (
    create_key_router(settings, site=site)
    if settings.namespaces_file is None
    else create_router(settings, site=site)
)
