"""Writes the dashboards that Grafana is given: `make dashboards`, after a change in this folder."""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana import failures, overview, queues, workers

FOLDER = Path(__file__).parent / "dashboards"

DASHBOARDS = {
    "overview": overview.DASHBOARD,
    "queues": queues.DASHBOARD,
    "workers": workers.DASHBOARD,
    "failures": failures.DASHBOARD,
}


def texts() -> dict[str, str]:
    """The text of each file of `dashboards/`."""
    encoder = JSONEncoder(sort_keys=True, indent=2)
    return {f"{name}.json": encoder.encode(made) + "\n" for name, made in DASHBOARDS.items()}


if __name__ == "__main__":
    for name, text in texts().items():
        (FOLDER / name).write_text(text)
