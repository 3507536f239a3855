"""The module that a worker imports (`dramatiq goqueue.actors`), and the only one with side effects at import.

It sets up logging and the broker, declares the built-in job types, and loads the users' own modules.
"""

from __future__ import annotations

from goqueue.worker.terminations import listen

listen(only_to_dramatiq=True)  # what follows takes a second, in which the process may be told to stop

from importlib import import_module  # noqa: E402

from goqueue import failpoints  # noqa: E402
from goqueue.config.settings import Settings, get_settings  # noqa: E402
from goqueue.errors import ConfigurationError  # noqa: E402
from goqueue.instance import default  # noqa: E402
from goqueue.observability.logging import configure_logging  # noqa: E402
from goqueue.remote.declared_type_rows import DeclaredType  # noqa: E402

__all__ = ["DEFAULT_TYPES", "broker"]

#: The type of a job that names only its queue, where that is not the queue's one declared type.
DEFAULT_TYPES = {"default": "send_email"}

settings = get_settings()
configure_logging(settings)
failpoints.configure(settings.failpoints)
broker = default().broker

for queue in DEFAULT_TYPES:
    broker.declare_queue(queue)  # no type is declared on it, so workers would not serve it otherwise

for module in ("send_email", "process_payment", "send_webhook", "deliver_webhook"):
    import_module(f"goqueue.actors.{module}")


async def _push(declared: DeclaredType, of_settings: Settings) -> object:
    from goqueue.actors.push_call import push_job  # noqa: PLC0415  (what it needs is large)

    return await push_job(declared, of_settings)


broker.push_call = _push

for module in settings.actors:
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigurationError([f"GOQUEUE_ACTORS: cannot import {module!r}: {error}"]) from error
