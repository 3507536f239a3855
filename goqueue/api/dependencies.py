"""What a job waits for, and what waits for it."""

from __future__ import annotations

import falcon

from goqueue.api.context import Context
from goqueue.api.dependency_models import link_document
from goqueue.api.documents import as_json
from goqueue.engine import dependency_rows as dependency_lists
from goqueue.engine.dependency_rows import LINKS_MAX
from goqueue.engine.transitions import jobs as job_store


class DependenciesResource:
    """The parents and children of a job."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, _request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """All its parents and its first 1,000 children, each with its state."""
        with self._context.database.autocommit() as connection:
            job_store.get(connection, job_id)
            parents = dependency_lists.parents_of(connection, job_id)
            children = dependency_lists.children_of(connection, job_id, limit=LINKS_MAX + 1)
        response.data = as_json(
            {
                "parents": [link_document(link) for link in parents],
                "children": [link_document(link) for link in children[:LINKS_MAX]],
                "more_children": len(children) > LINKS_MAX,
            }
        )
