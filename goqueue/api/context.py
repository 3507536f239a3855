"""What every resource works with."""

from goqueue.instance import GoQueue as Context

__all__ = ["Context"]
