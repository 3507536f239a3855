"""What gunicorn serves: `gunicorn goqueue.wsgi:app`. The API, and the dashboard beside it."""

from goqueue.api.app import create_app
from goqueue.config import get_settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.tracing.export import start_tracing

settings = get_settings()
start_tracing(settings, "api")
app = create_app(settings, site=DASHBOARD if settings.dashboard else None)
