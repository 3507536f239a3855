"""`goqueue dev`: the whole stack on this machine, until Ctrl-C."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from goqueue.config.settings import load_settings
from goqueue.dev.embedded_stack import EmbeddedStack
from goqueue.ops.ports import HOST
from goqueue.ops.supervisor import TEND_SECONDS, StopRequest

if TYPE_CHECKING:
    from pathlib import Path

EXIT_FAILED = 1
EXIT_FORCED = 130

READY = """
GoQueue is ready. Ctrl-C stops it; what it holds stays in {folder}.

  dashboard    {api}/dashboard
  API          {api}
  PostgreSQL   {database}
  Valkey       {redis}
  mail         {mail}  (takes everything but refuse…@ and, at first, defer-once…@)
  payments     {payments}  (ids that begin with decline, fail-once, throttle, lose-answer do so)
  webhooks     {webhooks}/ok  (also /fail/1, /gone, /status/500, /slow/2, …)
  metrics      {api}/metrics, of the workers {worker_metrics}, of the scheduler {scheduler_metrics}

Try:

  curl {api}/jobs/create -H 'Content-Type: application/json' -d '{{"queue": "email", "payload": \
{{"to": "ada@example.com", "subject": "Hello", "body": "It works."}}}}'
  curl '{api}/jobs?queue=email'

For `goqueue explain` and Python in another terminal:

  export GOQUEUE_DATABASE_URL={database} GOQUEUE_REDIS_URL={redis}
"""


def run_dev(folder: Path, **settings: Any) -> int:
    """Run the stack in this folder; the exit code: 0 after a clean stop, 1 or (forced) 130 otherwise.

    Raises:
        StartupError: something cannot start; one line.
        ConfigurationError: the environment is not usable.
    """
    if "log_format" not in load_settings().model_fields_set:
        settings["log_format"] = "console"
    stack = EmbeddedStack(folder.resolve(), **settings)
    with StopRequest().on_signals() as stop:
        try:
            stack.start(stop)
            if not stop.requested.is_set():
                _say(_ready_text(stack, folder))
            while not stop.requested.wait(TEND_SECONDS):
                stack.tend()
            _say("\nStopping; Ctrl-C again stops at once.")
        finally:
            clean = stack.stop(stop.forced)
    if stop.forced.is_set():
        return EXIT_FORCED
    return 0 if clean else EXIT_FAILED


def _ready_text(stack: EmbeddedStack, folder: Path) -> str:
    return READY.format(
        folder=folder,
        api=stack.api_url,
        database=stack.postgres.url,
        redis=stack.valkey.url,
        mail=stack.mail.url,
        payments=stack.payments.charges_url,
        webhooks=stack.webhooks.url,
        worker_metrics=_metrics_url(stack.settings.worker_metrics_port),
        scheduler_metrics=_metrics_url(stack.settings.scheduler_metrics_port),
    )


def _metrics_url(port: int) -> str:
    return f"http://{HOST}:{port}/metrics" if port else "nowhere"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (a command prints)
