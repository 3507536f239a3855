"""The job types that a process has declared: by name and alias, with what ends a job of each at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from dramatiq.actor import Actor

from goqueue.config.labels import entries_of, labels_of, with_version
from goqueue.config.settings import Settings
from goqueue.contents.contents import JobContents
from goqueue.engine.options.batch import Batch, batch_schema_of
from goqueue.engine.options.injection import injected_parameters, payload_signature
from goqueue.engine.options.job_type import JobType
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.options.payload_schema import schema_of
from goqueue.engine.options.uniqueness import Unique
from goqueue.errors import Discard
from goqueue.jobs import RetryPolicy
from goqueue.worker.async_jobs.function import is_async
from goqueue.worker.verdicts import HarmfulFinalError

Throws = tuple[type[BaseException], ...]


class JobTypes:
    """The declared job types of one process.

    Attributes:
        by_name: the types under their own names.
        aliases: former names of types: alias → name.
        redacted: name or alias → the names of the fields that nobody but its handler sees.

    Args:
        settings: the defaults of what a type does not say.
    """

    def __init__(self, settings: Settings) -> None:
        self.by_name: dict[str, JobType] = {}
        self.aliases: dict[str, str] = {}
        self.redacted: dict[str, frozenset[str]] = {}
        self._settings = settings
        self._keys = JobContents.of_settings(settings).keys
        self._throws: dict[str, Throws] = {}
        self._async: set[str] = set()
        self._batches: dict[str, Batch] = {}
        self._declarations = 0
        #: The known types, and of how many declarations they were made.
        self._known: tuple[int, KnownTypes] | None = None

    def declare(self, actor: Actor[Any, Any], job_type: JobType | None = None) -> JobType:
        """Declare the type of an actor: what its function and options say, or, where it is given, this.

        Raises:
            ValueError: an option is wrong, or its annotations are no schema of a payload.
        """
        job_type = job_type or self._job_type_of(actor)
        self._learn_aliases(actor)
        self.by_name[actor.actor_name] = job_type
        self._throws[actor.actor_name] = (Discard, HarmfulFinalError, *throws_of(actor))
        if is_async(actor.fn):
            self._async.add(actor.actor_name)
        else:
            self._async.discard(actor.actor_name)
        self._learn_redacted(job_type)
        self._batches.pop(actor.actor_name, None)
        if job_type.batch is not None:
            self._batches[actor.actor_name] = job_type.batch
        self._declarations += 1
        return job_type

    def forget(self, name: str) -> None:
        """Forget a type, which nobody runs here any more."""
        self.by_name.pop(name, None)
        self._throws.pop(name, None)
        self._async.discard(name)
        self._declarations += 1

    def get(self, name: str) -> JobType | None:
        """Find a type by its name; by an alias, the type under that name. None: it is not declared."""
        declared = self.by_name.get(self.aliases.get(name, name))
        return declared if declared is None or declared.name == name else replace(declared, name=name)

    def names(self) -> set[str]:
        """Tell the names of all types, aliases included."""
        return {*self.by_name, *self.aliases}

    def is_async(self, name: str) -> bool:
        """Tell whether jobs of this type run on the event loop."""
        return self.aliases.get(name, name) in self._async

    @property
    def has_batches(self) -> bool:
        """Tell whether the jobs of any type are batched."""
        return bool(self._batches)

    def batch_of(self, name: str) -> Batch | None:
        """Tell how the jobs of a type are batched; None: each runs by itself."""
        return self._batches.get(self.aliases.get(name, name)) if self._batches else None

    def jobs_per_place(self, queue: str) -> int:
        """Tell how many jobs of a queue need one place: several where all of its types are batched."""
        types = self.by_name.copy().values()
        sizes = [1 if one.batch is None else one.batch.size for one in types if one.queue == queue]
        return min(sizes, default=1)

    @property
    def has_async(self) -> bool:
        """Tell whether any type is async."""
        return bool(self._async)

    def kinds_in(self, queue: str) -> set[bool]:
        """Tell whether the types that were declared for a queue are async: some, all, none of them."""
        types = self.by_name.copy().values()
        return {job_type.name in self._async for job_type in types if job_type.queue == queue}

    def slots_in(self, queue: str, threads: int) -> int:
        """Tell how many jobs of a queue run here at once: on threads, async ones, or both, by what it holds.

        What is declared for no type is expected to hold what threads run.
        """
        kinds = self.kinds_in(queue)
        async_slots = self._settings.worker_async_slots if True in kinds else 0
        return async_slots + (0 if kinds == {True} else threads)

    def known(self, threads: int) -> KnownTypes:
        """The jobs that this process can run with so many threads: by types, aliases included, and labels."""
        declarations, known = self._declarations, self._known
        if known is None or known[0] != declarations or known[1].slots != threads:
            # Hashes take a while: a type that is declared meanwhile must not be forgotten for good.
            types = [self.get(name) for name in self.names()]
            hashes = {job_type.name: job_type.schema_hash() for job_type in types if job_type}
            labels = with_version(entries_of(self._settings.worker_labels), self._settings.worker_version)
            known = self._known = (
                declarations,
                KnownTypes(
                    hashes,
                    labels=labels,
                    slots=threads,
                    async_types=[name for name in hashes if self.is_async(name)],
                    async_slots=self._settings.worker_async_slots,
                ),
            )
        return known[1]

    def too_wide(self, threads: int) -> dict[str, int]:
        """Tell the types whose jobs take more slots than there are, with how many they take.

        For those of async types there are async slots, for those of others so many threads.
        """
        most = {True: self._settings.worker_async_slots, False: threads}
        return {
            name: declared.slots
            for name, declared in self.by_name.items()
            if declared.slots > most[self.is_async(name)]
        }

    def throws(self, name: str) -> Throws:
        """Tell the exceptions after which a job of this type is not retried."""
        return self._throws.get(self.aliases.get(name, name), (Discard,))

    def retry_policy(self, name: str) -> RetryPolicy:
        """Tell how failed attempts of a type are retried; one that was forgotten, by the default."""
        declared = self.by_name.get(self.aliases.get(name, name))
        return RetryPolicy() if declared is None else declared.retry

    def _job_type_of(self, actor: Actor[Any, Any]) -> JobType:
        function = cast("Callable[..., Any]", getattr(actor.fn, "__wrapped__", actor.fn))
        batch: Batch | None = actor.options.get("batch")
        schema, style = schema_of(function) if batch is None else (batch_schema_of(function), "payload")
        if batch is not None:
            batch.expect_key_in(schema.json_schema())
        job_type = JobType(
            name=actor.actor_name,
            queue=actor.queue_name,
            schema=schema,
            style=style,
            retry=self._retry_policy_of(actor.options),
            time_limit_seconds=actor.options.get("time_limit", self._settings.time_limit_seconds * 1000)
            / 1000,
            unique=_unique_of(actor),
            rerun_after_death=_rerun_after_death(actor),
            signature=payload_signature(function) if style == "call" else None,
            injected=frozenset(parameter.name for parameter in injected_parameters(function)),
            requires=with_version(
                entries_of(labels_of(actor.options.get("requires") or {})),
                actor.options.get("min_version") or 0,
            ),
            slots=actor.options.get("slots") or 1,
            batch=batch,
            **self._protection_of(actor.options),
        )
        if job_type.unique is not None and job_type.unique.collects and job_type.list_field is None:
            raise ValueError(
                f"{job_type.name}: unique: the mode collect needs a handler with one parameter, annotated "
                "with a list of payloads"
            )
        return job_type

    def _protection_of(self, options: dict[str, Any]) -> dict[str, Any]:
        """What a type says of the confidence of what its jobs hold, as a `JobType` has it."""
        encrypt = options.get("encrypt")
        encrypt = self._settings.encrypt_payloads if encrypt is None else encrypt
        redact = frozenset(name.lower() for name in options.get("redact") or ())
        if encrypt and self._keys is None:
            raise ValueError(
                "encrypt: there is no key to encrypt with: set GOQUEUE_PAYLOAD_KEYS, for which `goqueue "
                "payload-keys new` makes one, in every process that loads the type"
            )
        is_protected = self._keys is not None and (encrypt or redact)
        fingerprint = self._keys.fingerprint if self._keys is not None and is_protected else None
        return {"encrypt": encrypt, "redact": redact, "fingerprint": fingerprint}

    def _learn_redacted(self, job_type: JobType) -> None:
        names = [job_type.name, *(alias for alias, name in self.aliases.items() if name == job_type.name)]
        for name in names:
            self.redacted.pop(name, None)
            if job_type.redact:
                self.redacted[name] = job_type.redact

    def _learn_aliases(self, actor: Actor[Any, Any]) -> None:
        name = actor.actor_name
        aliases = tuple(actor.options.get("aliases") or ())
        if name in self.aliases:
            raise ValueError(f"{name!r} is an alias of the type {self.aliases[name]!r}")
        for alias in aliases:
            taken = alias if alias in self.by_name else self.aliases.get(alias)
            if alias == name or taken not in {None, name}:
                raise ValueError(f"aliases of {name!r}: {alias!r} is not a free name")
        self.aliases |= dict.fromkeys(aliases, name)

    def _retry_policy_of(self, options: dict[str, Any]) -> RetryPolicy:
        defaults = RetryPolicy(
            max_retries=self._settings.max_retries,
            min_backoff_seconds=self._settings.min_backoff_seconds,
            max_backoff_seconds=self._settings.max_backoff_seconds,
        )
        return replace(
            defaults,
            **{name: options[name] for name in ("max_retries", "jitter") if name in options},
            **{
                f"{name}_seconds": options[name] / 1000
                for name in ("min_backoff", "max_backoff")
                if name in options
            },
        )


def _requires(options: dict[str, Any]) -> tuple[str, ...]:
    labels = entries_of(labels_of(options.get("requires") or {}))
    return with_version(labels, options.get("min_version") or 0)


def _rerun_after_death(actor: Actor[Any, Any]) -> bool:
    rerun = actor.options.get("rerun_after_death", True)
    if not isinstance(rerun, bool):
        raise ValueError(f"rerun_after_death: expected True or False, got {rerun!r}")  # noqa: TRY004  (as every option that is wrong)
    return rerun


def _unique_of(actor: Actor[Any, Any]) -> Unique | None:
    unique: Unique | None = actor.options.get("unique")
    wrong = [] if unique is None else [f"{name}: {expected}" for name, expected in unique.problems()]
    if wrong:
        raise ValueError("; ".join(wrong))
    return unique


def throws_of(actor: Actor[Any, Any]) -> Throws:
    """Tell the exceptions that an actor itself names as final."""
    throws = actor.options.get("throws")
    if not throws:
        return ()
    return throws if isinstance(throws, tuple) else (throws,)
