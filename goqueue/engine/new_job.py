"""Validated jobs made from what callers say: the type, the payload, the settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, Unpack

import orjson
from pydantic import BaseModel

from goqueue.config.bounds import MAX_DEPTH, is_nested_deeper, is_number
from goqueue.config.labels import entries_of, version_of, with_version
from goqueue.engine.options.collected_payload import collected
from goqueue.engine.options.job_options import refuse_wrong
from goqueue.engine.options.job_settings import JobSettings, refuse_contradictions, refuse_wrong_policy
from goqueue.engine.options.job_type import JobType, holds_nul
from goqueue.errors import InvalidJobError
from goqueue.jobs import MAX_DELAY_SECONDS, NewJob, OnParentFailure, RetryPolicy

__all__ = ["DeclaredTypes", "job_of_request", "listed_payloads", "new_job", "new_jobs", "options_of_policy"]


class DeclaredTypes(Protocol):
    """Knows the job types that there are."""

    def job_type(self, name: str) -> JobType | None:
        """Return a type by its name or an alias; None: it is not declared."""

    def type_of(self, declared: Any) -> JobType:
        """Return the job type of an actor, or of the name of a type.

        Raises:
            TypeError: it is neither, or an actor of another broker.
            InvalidJobError: there is no type of this name.
        """


def new_job(
    types: DeclaredTypes,
    type_name: str,
    payload: Any,
    *,
    options: dict[str, Any] | None = None,
    **settings: Unpack[JobSettings],
) -> NewJob:
    """Make a validated job of a declared type; nothing is stored.

    Raises:
        InvalidJobError: the type is unknown, the payload does not fit it, or a setting is wrong.
    """
    job_type = _declared_type(types, type_name)
    refuse_wrong(settings)
    return _job_of_settings(job_type, type_name, payload, settings, options)


def listed_payloads(payloads: Iterable[Any]) -> list[Any]:
    """Return the payloads of many jobs as a list.

    Raises:
        InvalidJobError: it is nothing with a payload for each job.
    """
    if not isinstance(payloads, Iterable) or isinstance(payloads, str | bytes | Mapping | BaseModel):
        raise InvalidJobError({"payloads": "expected a list, with a payload for each job"})
    return list(payloads)


def new_jobs(
    job_type: JobType,
    type_name: str,
    payloads: Sequence[Any],
    *,
    options: dict[str, Any] | None = None,
    **settings: Unpack[JobSettings],
) -> list[NewJob]:
    """Make validated jobs of a type, one for each payload, all with these settings; nothing is stored.

    Raises:
        InvalidJobError: a setting is wrong, or a payload: its fields are named `payloads[3].to`.
    """
    refuse_wrong(settings)
    jobs: list[NewJob] = []
    try:
        for payload in payloads:
            document = job_type.payload_of_call((payload,), {})
            jobs.append(_job_of_settings(job_type, type_name, document, settings, options))
    except InvalidJobError as error:
        place = f"payloads[{len(jobs)}]"
        raise InvalidJobError(
            {
                f"{place}{name.removeprefix('payload')}" if _is_of_payload(name) else name: wrong
                for name, wrong in error.fields.items()
            }
        ) from None
    return jobs


def _is_of_payload(field: str) -> bool:
    return field == "payload" or field.startswith("payload.")


def job_of_request(types: DeclaredTypes, type_name: str, payload: Any, settings: JobSettings) -> NewJob:
    """Make a job of a declared type, whose settings `JobOptions` has read. Raises as `new_job`."""
    job_type = _declared_type(types, type_name)
    refuse_contradictions(settings)
    return _job_of_settings(job_type, type_name, payload, settings, None)


def _declared_type(types: DeclaredTypes, type_name: Any) -> JobType:
    job_type = types.job_type(type_name) if isinstance(type_name, str) else None
    if job_type is None:
        raise InvalidJobError({"type": f"unknown job type {type_name!r}"})
    return job_type


def _job_of_settings(
    job_type: JobType, type_name: str, payload: Any, settings: JobSettings, options: dict[str, Any] | None
) -> NewJob:
    said: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    said.setdefault("queue", job_type.queue)
    said.setdefault("max_retries", job_type.retry.max_retries)
    said.setdefault("slots", job_type.slots)
    said["requires"] = _required(job_type, said.pop("requires", None), said.pop("min_version", None))
    unique = said.pop("unique", job_type.unique)
    if unique is not None and unique.collects:
        text, said["unique"] = collected(job_type, type_name, payload, unique, said)
    else:
        text = job_type.validated(payload)
        if unique is not None:
            said["unique"] = unique.rule(type_name, orjson.loads(text), job_type.fingerprint)
    for name in said.keys() & {"depends_on", "tags"}:
        said[name] = tuple(said[name])
    if "on_parent_failure" in said:
        said["on_parent_failure"] = OnParentFailure(said["on_parent_failure"])
    return NewJob(
        type=type_name,
        payload=text,
        options=_options_text(options) if options else None,
        encrypted=job_type.encrypt,
        **said,
    )


def _required(
    job_type: JobType, labels: Mapping[str, Any] | None, min_version: int | None
) -> tuple[str, ...]:
    """What a job requires of its worker: of labels and version, each, what it says, or else its type."""
    if labels is None and min_version is None:
        return job_type.requires
    entries = job_type.requires if labels is None else entries_of(labels)
    return with_version(entries, version_of(job_type.requires) if min_version is None else min_version)


def options_of_policy(retry: RetryPolicy) -> dict[str, Any]:
    """Write a policy's backoff as the options of a Dramatiq message, which `Retries` reads.

    Raises:
        InvalidJobError: it is no retry policy, or a part of it is wrong.
    """
    refuse_wrong_policy(retry)
    backoffs = {name: getattr(retry, name) for name in ("min_backoff_seconds", "max_backoff_seconds")}
    wrong = [name for name, seconds in backoffs.items() if not is_number(seconds, 0, MAX_DELAY_SECONDS)]
    if wrong:
        raise InvalidJobError(
            {f"retry.{name}": f"expected 0 to {MAX_DELAY_SECONDS:,} seconds" for name in wrong}
        )
    return {
        "min_backoff": max(1, round(retry.min_backoff_seconds * 1000)),
        "max_backoff": max(1, round(retry.max_backoff_seconds * 1000)),
        "jitter": retry.jitter,
    }


def _options_text(options: dict[str, Any]) -> str:
    """Options as they are kept.

    Raises:
        InvalidJobError: they are not JSON, or JSON that not every reader reads back as it was.
    """
    try:
        text = orjson.dumps(options).decode()
    except TypeError as error:
        raise InvalidJobError({"options": f"they are not JSON: {error}"}) from None
    if holds_nul(text) or is_nested_deeper(text.encode(), MAX_DEPTH):
        raise InvalidJobError(
            {"options": f"expected no NUL character, and at most {MAX_DEPTH} levels of nesting"}
        )
    return text
