"""The answer to "why is this job not running?": facts, turned into reasons and sentences. Pure Python.

`goqueue/insight/explain/fact_rows.py` finds the facts out; `explained` turns them into an answer.
"""

from __future__ import annotations

from goqueue.insight.explain.answer import explained
from goqueue.insight.explain.facts import Facts
from goqueue.insight.explain.reasons import Explanation, Reason, ReasonCode

__all__ = ["Explanation", "Facts", "Reason", "ReasonCode", "explained"]
