"""Where the time of a drain goes: py-spy on a worker and on the scheduler, summed up by function."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import psutil

from bench.processes import wait_until
from bench.run_counter import counts
from bench.stack import Stack
from bench.systems import GoQueue

JOBS = 100_000
SHOWN = 30


def profile_drain(stack: Stack, *, seconds: int) -> str:
    """Profile one worker process and the scheduler while they drain no-op jobs; the hottest functions.

    Raises:
        FileNotFoundError: py-spy is not installed.
    """
    stack.clear()
    system = GoQueue(stack)
    system.enqueue_many("noop", JOBS, {})
    with system.running() as roles:
        wait_until(lambda: sum(counts(stack.runs)) > 1000, seconds=60, what="the drain began")
        worker = max(roles["workers"].tree(), key=_cpu)
        targets = {"worker": worker.pid, "scheduler": roles["scheduler"].pid}
        spies = {name: _spy(stack.folder / f"{name}.raw", pid, seconds) for name, pid in targets.items()}
        for spy in spies.values():
            spy.wait()
    texts = [summary(name, (stack.folder / f"{name}.raw").read_text().splitlines()) for name in targets]
    return "\n\n".join(texts)


def summary(name: str, lines: Iterable[str]) -> str:
    """The hottest functions of py-spy's raw format: `frame;frame;frame samples` a line."""
    alone: Counter[str] = Counter()
    with_callees: Counter[str] = Counter()
    for line in lines:
        stack, _, samples = line.rpartition(" ")
        frames = [frame.rsplit(":", 1)[0] + ")" for frame in stack.split(";")]
        alone[frames[-1]] += int(samples)
        with_callees.update(dict.fromkeys(set(frames), int(samples)))
    total = max(1, alone.total())
    shown = [f"{name}: {total} samples that held the interpreter", "   self  with callees"]
    for function, hits in alone.most_common(SHOWN):
        shown.append(f"{hits / total:7.1%}  {with_callees[function] / total:7.1%}  {function}")
    shown.append("   with callees")
    shown += [f"{hits / total:7.1%}  {function}" for function, hits in with_callees.most_common(SHOWN)]
    return "\n".join(shown)


def _spy(output: Path, pid: int, seconds: int) -> subprocess.Popen[bytes]:
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if program is None:
        raise FileNotFoundError("--profile needs py-spy: pip install py-spy")
    command = [program, "record", "--gil", "--rate", "250", "--format", "raw", "--output", str(output)]
    return subprocess.Popen(
        [*command, "--duration", str(seconds), "--pid", str(pid)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
