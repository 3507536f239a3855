"""What gunicorn serves: `gunicorn goqueue.api.wsgi:app`."""

from goqueue.api.app import create_app
from goqueue.config import get_settings
from goqueue.tracing.export import start_tracing

start_tracing(get_settings(), "api")
app = create_app(get_settings())
