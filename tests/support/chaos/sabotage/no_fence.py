"""SABOTAGE, for mutation tests only: in this process recording asks neither fence nor state."""

from __future__ import annotations

from goqueue.engine.transitions import record

_GUARDS = {
    " AND jobs.fence = o.fence AND jobs.status || '' = 'running'": "",
    "RETURNING jobs.id, jobs.fence,": "RETURNING jobs.id, o.fence,",
    "RETURNING job_id, fence\n": "ON CONFLICT DO NOTHING RETURNING job_id, fence\n",
}

for guard, nothing in _GUARDS.items():
    if guard not in record._RECORD:  # noqa: SLF001  (a mutation)
        raise RuntimeError(f"the mutation does not fit the statement any more: {guard!r}")
    record._RECORD = record._RECORD.replace(guard, nothing)  # noqa: SLF001  (a mutation)
