"""Why is a job not running? What was found out about it, turned into reasons and sentences. Pure Python.

`goqueue/store/explanation.py` finds the facts out; `explained` turns them into an answer.
"""

from __future__ import annotations

from goqueue.rules.explanation.answer import explained
from goqueue.rules.explanation.facts import Facts
from goqueue.rules.explanation.reasons import Explanation, Reason, ReasonCode

__all__ = ["Explanation", "Facts", "Reason", "ReasonCode", "explained"]
