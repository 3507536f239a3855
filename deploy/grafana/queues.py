"""The dashboard of queues: what waits in each, how long, and whether it keeps its objective."""

from __future__ import annotations

from deploy.grafana.panels import QUEUES, Query, Section, dashboard, over_time, quantile, times

BACKLOG = Section(
    "Backlog",
    [
        over_time(
            "Waiting jobs",
            "Jobs that could start now.",
            Query(f"max by (queue) (queue_depth{{{QUEUES}}})", "{{queue}}"),
        ),
        over_time(
            "Age of the oldest",
            "How long the oldest waiting job could have started already.",
            Query(f"max by (queue) (queue_oldest_age_seconds{{{QUEUES}}})", "{{queue}}"),
            unit="s",
        ),
        over_time(
            "Paused",
            "1 while the queue is paused.",
            Query(f"max by (queue) (queue_paused{{{QUEUES}}})", "{{queue}}"),
            parts=3,
        ),
        over_time(
            "Workers",
            "Live worker processes that serve the queue.",
            Query(f"max by (queue) (queue_workers_live{{{QUEUES}}})", "{{queue}}"),
            parts=3,
        ),
        over_time(
            "Dead letters",
            "Jobs that are failed now.",
            Query(f"max by (queue) (queue_dead_letters{{{QUEUES}}})", "{{queue}}"),
            parts=3,
        ),
        over_time(
            "Jobs that no worker can run",
            "Of the next 1,000: their type is unknown, or their payload cannot be read, as during a deploy.",
            Query(f"max by (queue) (queue_unrunnable_jobs{{{QUEUES}}})", "{{queue}}"),
            parts=3,
        ),
    ],
)

OBJECTIVE = Section(
    "Waits and their objective",
    [
        over_time(
            "Wait, p99, and what it should not exceed",
            "A line without a queue's objective beside it has none.",
            Query(quantile(0.99, "job_wait_seconds", by="queue", where=QUEUES), "{{queue}}"),
            Query(f"max by (queue) (queue_slo_wait_seconds{{{QUEUES}}})", "{{queue}}: objective"),
            unit="s",
        ),
        over_time("Wait", "Over the chosen queues.", *times("job_wait_seconds", where=QUEUES), unit="s"),
    ],
)

FLOW = Section(
    "Flow",
    [
        over_time(
            "Created",
            "Jobs accepted.",
            Query(f"sum by (queue) (rate(jobs_created_total{{{QUEUES}}}[$__rate_interval]))", "{{queue}}"),
            unit="ops",
        ),
        over_time(
            "Ended",
            "Attempts that ended, by what became of the job.",
            Query(
                f"sum by (status) (rate(jobs_processed_total{{{QUEUES}}}[$__rate_interval]))", "{{status}}"
            ),
            unit="ops",
            stacked=True,
        ),
        over_time(
            "Run time, p95",
            "Of an attempt's handler.",
            Query(quantile(0.95, "job_duration_seconds", by="queue", where=QUEUES), "{{queue}}"),
            unit="s",
        ),
        over_time(
            "Not run",
            "Creates that met a unique key, jobs that expired, slow-downs that handlers asked for.",
            Query(f"sum(rate(jobs_deduplicated_total{{{QUEUES}}}[$__rate_interval]))", "deduplicated"),
            Query(f"sum(rate(jobs_collected_total{{{QUEUES}}}[$__rate_interval]))", "collected"),
            Query(f"sum(rate(jobs_expired_total{{{QUEUES}}}[$__rate_interval]))", "expired"),
            Query(f"sum(rate(queues_slowed_down_total{{{QUEUES}}}[$__rate_interval]))", "slow-downs"),
            unit="ops",
        ),
    ],
)

DASHBOARD = dashboard(
    "queues",
    "Queues",
    "What waits in each queue, how long, and whether it keeps its objective.",
    [BACKLOG, OBJECTIVE, FLOW],
    by_queue=True,
)
