"""The command line, `goqueue`. Each subcommand is one function; what it needs is imported when it runs."""

# Longer than a module should be: nine subcommands and their options, which are read as one table.

from __future__ import annotations

import argparse
import getpass
import hashlib
import io
import os
import secrets
import socket
import sys
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goqueue.audit.actor import Actor, ActorKind, set_actor_of_process
from goqueue.config.settings import Settings, belong_to, load_settings
from goqueue.errors import ConfigurationError, GoQueueError, JobNotFoundError, StartupError
from goqueue.jobs import MAX_JOB_ID
from goqueue.observability.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

EXIT_FAILED = 1
EXIT_UNUSABLE = 2
EXIT_INTERRUPTED = 130

WAIT_SECONDS = 30.0
DEV_FOLDER = Path(".goqueue")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code: 0, 1 (it failed), 2 (it cannot work like this), 130 (interrupted)."""
    for stream in (sys.stdout, sys.stderr):
        # Where the terminal's encoding lacks a character, its number is better than no line at all.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    # As Dramatiq and gunicorn do: the modules of GOQUEUE_ACTORS may lie where the command is run.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    if options.namespace is not None:
        belong_to(options.namespace)
    set_actor_of_process(_actor_of(options.command))
    try:
        return int(options.command(options))
    except ConfigurationError as error:
        return _refuse(error.problems)
    except GoQueueError as error:
        return _refuse([str(error)])
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _actor_of(command: Any) -> Actor:
    """Who makes the changes of this process: the service itself, or whoever sits at the terminal."""
    if command in {api, worker, scheduler}:
        return Actor(ActorKind.SYSTEM, command.__name__, address=socket.gethostname())
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())  # in a container whose user has no name
    return Actor(ActorKind.TERMINAL, user, address=socket.gethostname())


def migrate(options: argparse.Namespace) -> int:
    """Bring the schema, and those of all namespaces, up to a revision, or one step down."""
    from goqueue.observability.logging import configure_logging  # noqa: PLC0415
    from goqueue.ops.migrate_command import migrate as migrated  # noqa: PLC0415

    settings = load_settings()
    configure_logging(settings)
    for line in migrated(settings, to=options.to, down=options.down):
        print(line)
    return 0


def check(_options: argparse.Namespace) -> int:
    """Print every problem, then the effective values."""
    from goqueue.ops.checks import problems_of_all  # noqa: PLC0415

    settings = load_settings()
    problems = problems_of_all(settings)
    _refuse(problems)
    for name, value in settings.masked().items():
        shown = ",".join(value) if isinstance(value, tuple) else "" if value is None else value
        print(f"GOQUEUE_{name.upper()}={printable(str(shown))}")
    return EXIT_UNUSABLE if problems else 0


def partitions(options: argparse.Namespace) -> int:
    """Put the jobs into partitions while everything runs, take them out again, or print what there is."""
    from goqueue.ops.partitions_command import run  # noqa: PLC0415

    print(run(options.what))
    return 0


def namespaces(options: argparse.Namespace) -> int:
    """Make, list, change and delete namespaces inside of the database; or print the installations."""
    from goqueue.observability.logging import configure_logging  # noqa: PLC0415
    from goqueue.ops.namespaces_command import run  # noqa: PLC0415

    settings = load_settings()
    configure_logging(settings)
    print(run(settings, options))
    return 0


def alert_rules(_options: argparse.Namespace) -> int:
    """Print the alert rules of all queues that have an objective, as a file for Prometheus."""
    from goqueue.db.database import Database  # noqa: PLC0415
    from goqueue.limits import queue_setting_rows as queue_settings  # noqa: PLC0415
    from goqueue.observability.alert_rules import written  # noqa: PLC0415

    database = Database(load_settings(), application_name="goqueue-alert-rules")
    try:
        with database.autocommit() as connection:
            print(written(queue_settings.objectives(connection)), end="")
    finally:
        database.close()
    return 0


def api(options: argparse.Namespace) -> int:
    """Serve the REST API."""
    from goqueue.access.users import check_sign_in  # noqa: PLC0415
    from goqueue.ops.api_command import serve  # noqa: PLC0415
    from goqueue.ops.checks import check_actors, check_bind  # noqa: PLC0415
    from goqueue.ops.namespace_checks import ensure_one_ready  # noqa: PLC0415

    settings = _settings_for_serving(
        api_host=options.host,
        api_port=options.port,
        api_processes=options.processes,
        api_threads=options.threads,
    )
    ensure_one_ready(settings, [check_bind, check_actors, check_sign_in], wait_seconds=options.wait)
    if not options.check:
        serve(settings)
    return 0


def worker(options: argparse.Namespace) -> int:
    """Supervise worker processes."""
    queues = tuple(options.queues.split(",")) if options.queues else None
    settings = _settings_for_serving(
        worker_processes=options.processes, worker_threads=options.threads, worker_queues=queues
    )
    if options.check:
        from goqueue.ops.checks import check_actors, ensure_ready  # noqa: PLC0415

        ensure_ready(settings, [check_actors], wait_seconds=options.wait)
        return 0
    from goqueue.ops.every_namespace import supervise_workers_of_all  # noqa: PLC0415
    from goqueue.ops.processes import goqueue_command, run_to_end  # noqa: PLC0415
    from goqueue.ops.supervisor import StopRequest  # noqa: PLC0415
    from goqueue.ops.worker_supervisor import supervise_workers  # noqa: PLC0415

    with StopRequest().on_signals() as stop:
        # In a process of its own: the supervisor stays small, and free of what users' modules do at import.
        check_command = goqueue_command(settings, "worker", "--check", "--wait", str(options.wait))
        refusal = run_to_end(check_command, stop.requested)
        if stop.requested.is_set():
            return 0
        supervise = supervise_workers_of_all if _is_for_all(options, settings) else supervise_workers
        return refusal or (0 if supervise(settings, stop) else EXIT_FAILED)


def scheduler(options: argparse.Namespace) -> int:
    """Run the background services."""
    from goqueue import failpoints  # noqa: PLC0415
    from goqueue.observability.tracing.export import start_tracing  # noqa: PLC0415
    from goqueue.ops.checks import check_actors, ensure_ready  # noqa: PLC0415
    from goqueue.ops.every_namespace import supervise_schedulers  # noqa: PLC0415
    from goqueue.ops.supervisor import StopRequest  # noqa: PLC0415
    from goqueue.scheduler.process import SchedulerProcess  # noqa: PLC0415

    settings = _settings_for_serving()
    failpoints.configure(settings.failpoints)
    with StopRequest().on_signals() as stop:
        # The actors' modules declare schedules, too.
        ensure_ready(settings, [check_actors], wait_seconds=options.wait, stopping=stop.requested)
        if options.check:
            return EXIT_INTERRUPTED if stop.requested.is_set() else 0
        if stop.requested.is_set():
            return 0
        if _is_for_all(options, settings):
            return 0 if supervise_schedulers(settings, stop) else EXIT_FAILED
        start_tracing(settings, "scheduler")
        SchedulerProcess(settings).run(stop.requested)
    return 0


def _is_for_all(options: argparse.Namespace, settings: Settings) -> bool:
    if options.every_namespace and settings.database_namespace is not None:
        raise ConfigurationError(["--every-namespace: leave --namespace out"])
    return bool(options.every_namespace)


def dev(options: argparse.Namespace) -> int:
    """Run everything on this machine until Ctrl-C."""
    with _dev_extra():
        from goqueue.dev.server import run_dev  # noqa: PLC0415

    return run_dev(
        options.data,
        api_port=options.port,
        worker_processes=options.processes,
        worker_threads=options.threads,
    )


def demo(options: argparse.Namespace) -> int:
    """Run the demo."""
    with _dev_extra():
        from goqueue.dev.demo import run_demo  # noqa: PLC0415

    return run_demo(options.jobs, more_mails_expected=options.sabotage)


def explain(options: argparse.Namespace) -> int:
    """Print why a job does not run, as `GET /jobs/{id}/explain` answers it."""
    from goqueue.db.database import Database  # noqa: PLC0415
    from goqueue.instance import GoQueue  # noqa: PLC0415

    settings = load_settings()
    with GoQueue(settings, database=Database(settings, application_name="goqueue-explain")) as goqueue:
        try:
            print(goqueue.explain(options.job_id).as_text())
        except JobNotFoundError as error:
            print(f"goqueue: {error}", file=sys.stderr)
            return EXIT_FAILED
    return 0


def keys(options: argparse.Namespace) -> int:
    """Make, list, revoke and rotate the API keys that are kept in PostgreSQL."""
    from goqueue.observability.logging import configure_logging  # noqa: PLC0415
    from goqueue.ops.keys_command import run  # noqa: PLC0415

    settings = load_settings()
    # Log lines go to standard error: what is on the other one is the key.
    configure_logging(settings)
    answer = run(settings, options)
    print(answer.text)
    for note in answer.notes:
        print(f"goqueue: {note}", file=sys.stderr)
    return 0


def webhooks(options: argparse.Namespace) -> int:
    """Make, list, try, rotate, disable and delete webhooks, and deliver again what they were told."""
    from goqueue.ops.webhooks_command import run  # noqa: PLC0415

    # As for keys: on standard output stands the secret alone.
    answer = run(_settings_for_serving(), options)
    print(answer.text)
    for note in answer.notes:
        print(f"goqueue: {note}", file=sys.stderr)
    return 0


def types(options: argparse.Namespace) -> int:
    """Declare, list and remove job types that are no Python code."""
    from goqueue.ops.types_command import run  # noqa: PLC0415

    for line in run(load_settings(), options):
        print(line)
    return 0


def audit(options: argparse.Namespace) -> int:
    """Print who changed what, the newest first; with --json all of it, as JSON lines."""
    from goqueue.ops.audit_command import lines  # noqa: PLC0415

    for line in lines(load_settings(), options):
        print(line)
    return 0


def events(options: argparse.Namespace) -> int:
    """Print what changes, as it happens, until Ctrl-C."""
    from goqueue.ops.events_command import lines  # noqa: PLC0415

    for line in lines(load_settings(), options):
        print(line, flush=True)
    return 0


def payload_keys(options: argparse.Namespace) -> int:
    """Make, count and rotate the keys that what jobs hold is encrypted with at rest."""
    from goqueue.ops.payload_keys_command import made, run  # noqa: PLC0415

    print(made(options.id) if options.action == "new" else run(load_settings(), options))
    return 0


def key(_options: argparse.Namespace) -> int:
    """Make an API key."""
    text = "gq_" + secrets.token_urlsafe(32)
    print(f"key (give it to the client, it is not kept):  {text}")
    print(f"hash (for GOQUEUE_API_KEYS):                  {hashlib.sha256(text.encode()).hexdigest()}")
    return 0


@contextmanager
def _dev_extra() -> Iterator[None]:
    """What is missing of the extra is one line."""
    try:
        yield
    except ModuleNotFoundError as missing:
        raise StartupError(f"{missing.name} is missing: pip install 'goqueue[dev]'") from missing


def _settings_for_serving(**overrides: Any) -> Settings:
    from goqueue.observability.logging import configure_logging  # noqa: PLC0415

    settings = load_settings(**{name: value for name, value in overrides.items() if value is not None})
    configure_logging(settings)
    return settings


def _refuse(problems: Sequence[str]) -> int:
    for problem in problems:
        print(f"goqueue: {printable(problem)}", file=sys.stderr)
    return EXIT_UNUSABLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="goqueue",
        description="A job queue service: jobs are rows in PostgreSQL, workers are Dramatiq's.",
        epilog="Settings are GOQUEUE_… environment variables; `goqueue check` prints them all.",
    )
    namespace_help = "the namespace of the command: of GOQUEUE_NAMESPACES_FILE, or inside of the database"
    parser.add_argument("--namespace", metavar="NAME", help=namespace_help)
    parser.add_argument("--version", action="version", version=f"goqueue {version('goqueue')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_local_commands(commands)
    _add_serving_commands(commands)
    _add_tools(commands)
    return parser


def _add_local_commands(commands: Any) -> None:
    dev_command = _add(commands, dev, "run everything on this machine until Ctrl-C (needs goqueue[dev])")
    dev_command.add_argument("--data", type=Path, default=DEV_FOLDER, metavar="DIR", help="kept between runs")
    dev_command.add_argument("--port", type=_port, default=8000, help="of the API (8000); 0 takes a free one")
    dev_command.add_argument("--processes", type=_positive, default=2, help="worker processes (2)")
    dev_command.add_argument("--threads", type=_positive, default=8, help="threads of each (8)")
    demo_command = _add(commands, demo, "run 1,000 jobs through a temporary stack and check every number")
    demo_command.add_argument("--jobs", type=_positive, default=1000, help=argparse.SUPPRESS)
    # For the test that a wrong count is noticed: expect so many mails more than there will be.
    demo_command.add_argument("--sabotage", type=int, default=0, help=argparse.SUPPRESS)


def _add_serving_commands(commands: Any) -> None:
    api_command = _add(commands, api, "serve the REST API under gunicorn")
    api_command.add_argument("--host", help="instead of GOQUEUE_API_HOST")
    api_command.add_argument("--port", type=_port, help="instead of GOQUEUE_API_PORT")
    worker_command = _add(commands, worker, "keep worker processes alive")
    worker_command.add_argument("--queues", metavar="A,B", help="instead of GOQUEUE_WORKER_QUEUES")
    scheduler_command = _add(commands, scheduler, "run dispatcher, rescuer and cleaner; one of several leads")
    for command, setting in ((api_command, "API"), (worker_command, "WORKER")):
        command.add_argument("--processes", type=_positive, help=f"instead of GOQUEUE_{setting}_PROCESSES")
        command.add_argument("--threads", type=_positive, help=f"instead of GOQUEUE_{setting}_THREADS")
    for command in (worker_command, scheduler_command):
        command.add_argument(
            "--every-namespace",
            action="store_true",
            help="processes of their own for the installation and each namespace inside of its database",
        )
    for command in (api_command, worker_command, scheduler_command):
        command.add_argument("--check", action="store_true", help="only make the checks made before serving")
        wait_help = f"wait so long for PostgreSQL and its schema ({WAIT_SECONDS:g})"
        command.add_argument("--wait", type=float, default=WAIT_SECONDS, metavar="SECONDS", help=wait_help)


def _add_tools(commands: Any) -> None:
    migrate_command = _add(commands, migrate, "bring the database schema up to date")
    step = migrate_command.add_mutually_exclusive_group()
    step.add_argument("--to", default="head", metavar="REVISION", help="up to this revision only")
    step.add_argument("--down", action="store_true", help="one revision down")
    _add(commands, check, "print every problem, then the effective settings; exit 2 when there is one")
    _add_namespaces(commands)
    explain_command = _add(commands, explain, "say why a job does not run")
    explain_command.add_argument("job_id", type=_job_id, metavar="ID", help="the job's id")
    partitions_command = _add(
        commands, partitions, "put the jobs into partitions, which are dropped when old"
    )
    partitions_command.add_argument("what", choices=("on", "off", "show"), help="while everything runs")
    _add(commands, alert_rules, "print the Prometheus alert rules of the queues' objectives")
    _add_keys(commands)
    _add_payload_keys(commands)
    _add_types(commands)
    _add_webhooks(commands)
    _add_audit(commands)
    _add_events(commands)
    _add(commands, key, "make a random API key and its hash for GOQUEUE_API_KEYS")


def _add_payload_keys(commands: Any) -> None:
    command = _add(commands, payload_keys, "make, count and rotate the keys that payloads are encrypted with")
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    new = actions.add_parser("new", help="make a key, and print it for GOQUEUE_PAYLOAD_KEYS")
    new.add_argument("id", nargs="?", metavar="ID", help="what it is called (the day)")
    actions.add_parser("list", help="print the keys, how much each of them encrypts, and the last order")
    again = actions.add_parser(
        "reencrypt", help="let the scheduler encrypt with the first key what other keys do"
    )
    again.add_argument("--rate", type=_positive_float, metavar="N", help="at most so many jobs a second")
    actions.add_parser("stop", help="stop the order that is under way")


def _add_namespaces(commands: Any) -> None:
    namespaces_command = _add(
        commands, namespaces, "make, list, change and delete namespaces inside of the database"
    )
    actions = namespaces_command.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("list", help="print those inside of the database, with quotas and use")
    create = actions.add_parser("create", help="make one: a schema with all tables, and a Redis prefix")
    change = actions.add_parser("change", help="change its quotas; `none` takes one away")
    delete = actions.add_parser("delete", help="delete it with all that is in it, and revoke its keys")
    for action in (create, change, delete):
        action.add_argument("name", help="up to 32 small letters, digits, _ and -")
    delete.add_argument("--force", metavar="NAME", help="its name once more: also while jobs wait or run")
    for action in (create, change):
        action.add_argument(
            "--max-waiting-jobs", type=_quota(int), metavar="N", help="jobs that have not begun"
        )
        action.add_argument("--creates-per-second", type=_quota(float), metavar="N", help="by all processes")
        action.add_argument("--max-payload-bytes", type=_quota(int), metavar="N", help="of one job")
        action.add_argument("--max-running-jobs", type=_quota(int), metavar="N", help="over all queues")
        action.add_argument("--share", type=int, metavar="N", help="the weight in what is divided (1)")


def _quota(kind: type[int | float]) -> Callable[[str], int | float | str]:
    return lambda text: text if text == "none" else kind(text)


def _add_audit(commands: Any) -> None:
    audit_command = _add(commands, audit, "print who changed what")
    audit_command.add_argument("--actor", metavar="NAME", help="only what this key, user or program changed")
    audit_command.add_argument("--action", metavar="ACTION", help="only this: queue.pause, job.cancel, …")
    audit_command.add_argument("--target", metavar="TARGET", help='only of this: "queue mail", "job 7"')
    audit_command.add_argument("--days", type=_days, metavar="DAYS", help="only of the last so many days")
    audit_command.add_argument(
        "--limit", type=_positive, default=50, metavar="N", help="at most so many (50)"
    )
    audit_command.add_argument("--json", action="store_true", help="all that match, as JSON lines")


def _add_events(commands: Any) -> None:
    events_command = _add(commands, events, "print what changes, as it happens")
    kinds_help = 'only events of this kind: job.failed, or "job.*"; repeatable'
    events_command.add_argument("--event", action="append", metavar="KIND", help=kinds_help)
    events_command.add_argument("--queue", metavar="NAME", help="only of this queue, and of its jobs")
    events_command.add_argument("--type", metavar="NAME", help="only of this type, and of its jobs")
    events_command.add_argument("--job", type=_job_id, metavar="ID", help="only of this job")
    events_command.add_argument("--tag", metavar="TAG", help="only of jobs that have this tag")
    events_command.add_argument("--after", metavar="ID", help="begin behind the event with this id")
    events_command.add_argument(
        "--seconds", type=_positive_float, metavar="SECONDS", help="end after so long; else with Ctrl-C"
    )
    events_command.add_argument("--json", action="store_true", help="all that they say, as JSON lines")


def _add_types(commands: Any) -> None:
    types_command = _add(commands, types, "declare, list and remove job types that are no Python code")
    actions = types_command.add_subparsers(dest="action", metavar="ACTION", required=True)
    declare = actions.add_parser("declare", help="declare a type, in place of what it was before")
    declare.add_argument("name", help="of the type")
    declare.add_argument("file", help="its declaration as JSON: schema, queue, max_retries, …; - reads it")
    actions.add_parser("list", help="print those that are declared: name, queue, and by whom")
    rotate = actions.add_parser("rotate", help="give a type with a url another secret, and print it")
    rotate.add_argument("name", help="of the type")
    rotate.add_argument(
        "--overlap", type=_hours, metavar="HOURS", help="how long calls are signed with both (24)"
    )
    remove = actions.add_parser("remove", help="remove a type that no job waits for")
    remove.add_argument("name", help="of the type")


def _add_keys(commands: Any) -> None:
    keys_command = _add(commands, keys, "make, list, revoke and rotate API keys")
    actions = keys_command.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key, and print it: it is not kept")
    create.add_argument("name", help="what it is called; keys of one name are of one client")
    create.add_argument(
        "scopes",
        nargs="+",
        metavar="SCOPE",
        help="a scope (jobs:create) or a role (client, viewer, operator)",
    )
    create.add_argument(
        "--queue", action="append", metavar="NAME", help="only jobs of this queue; repeatable"
    )
    create.add_argument("--type", action="append", metavar="NAME", help="only jobs of this type; repeatable")
    create.add_argument(
        "--expires-in", type=_days, metavar="DAYS", help="it opens nothing after so many days"
    )
    actions.add_parser("list", help="print the keys, without their secrets")
    revoke = actions.add_parser("revoke", help="end a key for good")
    revoke.add_argument("key_id", metavar="ID", help="the part of its text behind gq_")
    rotate = actions.add_parser("rotate", help="give a key another secret, and print it")
    rotate.add_argument("key_id", metavar="ID", help="the part of its text behind gq_")
    rotate.add_argument(
        "--overlap", type=_hours, metavar="HOURS", help="how long the secret before stays good (24)"
    )


def _add_webhooks(commands: Any) -> None:
    webhooks_command = _add(commands, webhooks, "make, list, try, rotate, disable and delete webhooks")
    actions = webhooks_command.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a webhook, and print its secret: it is not shown again")
    create.add_argument("name", help="letters, digits, points, dashes")
    create.add_argument("url", help="where events are delivered")
    for option, what in (("event", "job.completed, job.*"), ("queue", ""), ("type", ""), ("tag", "")):
        only = f"only events of this {option}, repeatable{f' ({what})' if what else ''}"
        create.add_argument(f"--{option}", action="append", metavar="NAME", help=only)
    create.add_argument("--header", action="append", metavar="NAME:VALUE", help="sent as well; repeatable")
    create.add_argument("--ordered", action="store_true", help="a delivery waits for the one before")
    create.add_argument("--with-contents", action="store_true", help="with payload, result and error")
    actions.add_parser("list", help="print the webhooks, without their secrets")
    for action, what in (
        ("ping", "deliver a webhook.ping, once"),
        ("enable", "tell it of events again, from where it stood"),
        ("delete", "delete it with its secret and its log"),
    ):
        actions.add_parser(action, help=what).add_argument("name")
    _add_webhook_log(actions)


def _add_webhook_log(actions: Any) -> None:
    rotate = actions.add_parser("rotate", help="give it another secret, and print it")
    rotate.add_argument("name")
    rotate.add_argument(
        "--overlap", type=_hours, metavar="HOURS", help="how long the secret before signs as well (24)"
    )
    disable = actions.add_parser("disable", help="tell it of nothing until it is enabled")
    disable.add_argument("name")
    disable.add_argument("--reason", metavar="TEXT", help="for whoever finds it disabled")
    states = ("waiting", "pending", "delivered", "failed")
    deliveries = actions.add_parser("deliveries", help="print what it was told, the newest first")
    deliveries.add_argument("name")
    deliveries.add_argument("--state", choices=states, help="only those")
    deliveries.add_argument("--limit", type=_positive, default=50, metavar="N", help="at most so many (50)")
    redeliver = actions.add_parser("redeliver", help="deliver again what failed, or was delivered")
    redeliver.add_argument("name")
    which = redeliver.add_mutually_exclusive_group(required=True)
    which.add_argument("--id", type=_job_id, metavar="ID", help="one delivery")
    which.add_argument("--days", type=_days, metavar="DAYS", help="those of the last so many days")
    redeliver.add_argument("--state", choices=states[2:], help="of those, which (failed)")


def _days(text: str) -> float:
    return _positive_float(text) * 86_400


def _hours(text: str) -> float:
    return _positive_float(text, least=0.0) * 3_600


def _positive_float(text: str, least: float = 1e-6) -> float:
    number = float(text)
    if not number >= least:
        raise argparse.ArgumentTypeError(f"expected a number from {least:g}, got {text}")
    return number


def _add(commands: Any, function: Any, summary: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        function.__name__.replace("_", "-"), help=summary, description=function.__doc__
    )
    command.set_defaults(command=function)
    return command


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, got {text}")
    return number


def _job_id(text: str) -> int:
    number = _positive(text)
    if number > MAX_JOB_ID:
        raise argparse.ArgumentTypeError(f"expected the id of a job, up to {MAX_JOB_ID}, got {text}")
    return number


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:  # noqa: PLR2004  (the range of a port)
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text}")
    return number
