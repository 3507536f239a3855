"""What gunicorn serves: `gunicorn goqueue.api.wsgi:app`."""

from goqueue.api.app import create_app
from goqueue.config import get_settings

app = create_app(get_settings())
