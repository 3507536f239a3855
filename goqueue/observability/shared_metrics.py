"""Metrics of a group of processes: each counts in files of its own, and any of them tells the sum.

This is prometheus_client's multiprocess mode with two additions. A process joins when it runs, also when its
metrics were declared before (a forked one's were). And what a dead process counted is folded into one file
of the group, so that a worker that is restarted for a month does not leave thousands of files to read.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Metric, generate_latest, values
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from goqueue.config.settings import share_metrics_in
from goqueue.forks import close_in_children
from goqueue.observability import metrics

log = structlog.get_logger(__name__)

#: The content type of `exposition`.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: The name that stands in place of a process id in the files of those that are gone.
GONE = "gone"


class SharedMetrics(Collector):
    """The files of one group of processes, in a folder that only they use.

    Locks: who reads holds `lock` shared, who folds files together holds it alone, so that no reader sees what
    a dead process counted twice, or not at all: both would look like a jump to Prometheus.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def join(self) -> None:
        """Count in this folder from now on. What this process has counted before is forgotten."""
        global _joined  # noqa: PLW0603  (as the metrics themselves, it belongs to the process)
        share_metrics_in(str(self.folder))
        values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
        for found in list(REGISTRY._collector_to_names):  # noqa: SLF001  (there is no public list)
            if isinstance(found, MetricWrapperBase) and found not in metrics.OF_THE_SCHEDULER:
                _begin_anew(found)
        _joined = self

    def collect(self) -> Iterable[Metric]:
        """Tell what all processes of the group have counted, the dead ones included."""
        with self._locked(fcntl.LOCK_SH):
            files = [str(path) for path in self.folder.glob("*.db")]
            try:
                return list(MultiProcessCollector.merge(files))  # type: ignore[no-untyped-call]
            except Exception as error:  # noqa: BLE001  (a file that somebody just creates has no length yet)
                log.debug("metrics_read_again", error=str(error))
                return list(MultiProcessCollector.merge(filter(_is_readable, files)))  # type: ignore[no-untyped-call]

    def pids(self) -> set[int]:
        """The processes that have files here."""
        names = (path.stem.rpartition("_")[2] for path in self.folder.glob("*.db"))
        return {int(name) for name in names if name.isdigit()}

    def retire(self, pid: int) -> None:
        """Keep what a process counted that is gone, and forget its gauges."""
        if not self.folder.exists():
            return
        with self._locked(fcntl.LOCK_EX):
            for path in sorted(self.folder.glob(f"*_{pid}.db")):
                # Out of sight first: who dies in the middle of this loses it instead of counting it twice.
                taken = path.rename(path.with_suffix(".taken"))
                if not path.name.startswith("gauge_"):
                    self._fold(taken, self.folder / f"{path.name.partition('_')[0]}_{GONE}.db")
                taken.unlink()

    @staticmethod
    def _fold(source: Path, target: Path) -> None:
        try:
            counted = _values_of(source)
        except Exception as error:  # noqa: BLE001  (it died while it wrote, and anything may stand there)
            log.warning("metrics_file_unreadable", file=source.name, error=repr(error))
            return
        kept = MmapedDict(str(target))  # type: ignore[no-untyped-call]
        for key, value in counted:
            kept.write_value(key, kept.read_value(key)[0] + value, 0.0)  # type: ignore[no-untyped-call]
        kept.close()  # type: ignore[no-untyped-call]

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        with (self.folder / "lock").open("a") as lock:
            close_in_children(lock)
            fcntl.flock(lock, how)
            yield


_joined: SharedMetrics | None = None


def exposition(*more: Collector, counts: bool = True) -> bytes:
    """Write what Prometheus reads: metrics of this process, or of the group that it joined; and `more`.

    Args:
        *more: collectors.
        counts: whether the metrics of processes are in it.
    """
    counted: list[Any] = [_joined or REGISTRY] if counts else []
    found: Any = _Together(*counted, *more)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(found)
    return generate_latest(registry)


class _Together(Collector):
    def __init__(self, *collectors: Any) -> None:
        self._collectors = collectors

    def collect(self) -> Iterable[Metric]:
        for collector in self._collectors:
            yield from collector.collect()


def _values_of(path: Path) -> list[tuple[str, float]]:
    """What a file holds, by the names of its series; any error where it is not whole."""
    items = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
    found = [(key, value) for key, value, _, _ in items]
    for key, _ in found:
        json.loads(key)
    return found


def _is_readable(name: str) -> bool:
    try:
        _values_of(Path(name))
    except Exception as error:  # noqa: BLE001  (as above)
        log.warning("metrics_file_unreadable", file=name, error=repr(error))
        return False
    return True


def _begin_anew(metric: MetricWrapperBase) -> None:
    """Make the values of a metric again: where they are kept was decided when they were made."""
    if isinstance(metric, metrics.Bounded):
        metric.forget()
    if metric._labelnames:  # noqa: SLF001  (prometheus_client decides this at its import, and offers no other way)
        with suppress(AttributeError), metric._lock:  # noqa: SLF001
            metric._metrics = {}  # noqa: SLF001
    else:
        metric._metric_init()  # type: ignore[no-untyped-call]  # noqa: SLF001
