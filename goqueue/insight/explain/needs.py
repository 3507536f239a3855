"""Reasons of a job that requires what no worker of its queue has: labels, or threads."""

from __future__ import annotations

from goqueue.config.labels import by_name, satisfies, version_of, without_version
from goqueue.insight.explain.facts import Facts
from goqueue.insight.explain.reasons import Reason, ReasonCode
from goqueue.insight.explain.text import count

__all__ = ["labels_missing", "too_small", "version_too_low"]

#: Sets of labels that a sentence names.
LABELS_SHOWN = 5


def labels_missing(facts: Facts) -> Reason:
    """Say which labels no worker of the queue has, or none has together, and what those have instead."""
    job, eligible = facts.job, facts.eligible
    required = without_version(job.requires or ())
    missing = [entry for entry in required if not any(entry in labels for labels, _ in eligible.labels)]
    lacks = f"no worker of the queue {eligible.runway!r} "
    if missing:
        lacks += f"has {', '.join(missing)}"
    elif required:
        lacks += f"has {', '.join(required)} together"
    else:
        # Of the release before this one, which knows of no slots.
        lacks += f"can give it {job.slots} slots"
    listen = "listens" if eligible.unlabelled == 1 else "listen"
    return Reason(
        ReasonCode.LABELS_MISSING,
        f"{lacks}; {count(eligible.unlabelled, 'worker')} {listen} to it: {_crowd(facts)}",
        {
            "queue": eligible.runway,
            "requires": by_name(required),
            "missing": by_name(missing),
            "workers": eligible.unlabelled,
            "labels": [
                {"labels": by_name(labels), "workers": workers} for labels, workers in eligible.labels
            ],
        },
        waits=True,
    )


def version_too_low(facts: Facts) -> Reason | None:
    """Say which version it needs, and the newest of the workers that have all labels; None: none has."""
    job, eligible = facts.job, facts.eligible
    needed = version_of(job.requires or ())
    older = [
        (version_of(labels), workers)
        for labels, workers in eligible.labels
        if needed and satisfies(labels, without_version(job.requires or ()))
    ]
    if not older:
        return None
    newest, workers = max(older)[0], sum(count_of for _, count_of in older)
    has = f"has {newest}" if newest else "says none"
    return Reason(
        ReasonCode.VERSION_TOO_LOW,
        f"it needs version ≥ {needed}, the newest live worker of the queue {eligible.runway!r} {has}",
        {"queue": eligible.runway, "min_version": needed, "newest": newest, "workers": workers},
        waits=True,
    )


def too_small(facts: Facts) -> Reason:
    """Say that every worker that could run the job has fewer slots than it takes: threads, or async ones."""
    job, eligible = facts.job, facts.eligible
    required = without_version(job.requires or ())
    with_labels = f" with {', '.join(required)}" if required else ""
    has = "has" if eligible.small == 1 else "have"
    return Reason(
        ReasonCode.WORKERS_TOO_SMALL,
        f"it takes {job.slots} slots, and no worker of the queue {eligible.runway!r}{with_labels} has so "
        f"many {eligible.slot_name}s; {count(eligible.small, 'worker')} {has} at most {eligible.most_slots}",
        {
            "queue": eligible.runway,
            "slots": job.slots,
            "workers": eligible.small,
            f"most_{eligible.slots_key}": eligible.most_slots,
        },
        waits=True,
    )


def _crowd(facts: Facts) -> str:
    """The workers that listen, by their labels: `2 with region=eu, 1 without labels`."""
    eligible = facts.eligible
    shown = eligible.labels[:LABELS_SHOWN]
    told = [
        f"{workers} with {', '.join(named)}"
        if (named := without_version(labels))
        else f"{workers} without labels"
        for labels, workers in shown
    ]
    more = eligible.unlabelled - sum(workers for _, workers in shown)
    return ", ".join([*told, *([f"{more} with others"] if more else [])])
