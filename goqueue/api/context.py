"""The parts of the application that every resource works with."""

from goqueue.instance import GoQueue as Context

__all__ = ["Context"]
