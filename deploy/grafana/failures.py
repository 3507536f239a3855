"""The dashboard of failures: what fails, how often, and what the service does about it."""

from __future__ import annotations

from deploy.grafana.panels import QUEUES, Query, Section, dashboard, over_time

DEAD_LETTERS = Section(
    "Dead letters",
    [
        over_time(
            "New, by error",
            "The ten classes of exceptions, or reasons, that most jobs failed for.",
            Query(
                f"topk(10, sum by (error) (increase(jobs_failed_total{{{QUEUES}}}[$__rate_interval])))",
                "{{error}}",
            ),
            stacked=True,
        ),
        over_time(
            "New, by type",
            "The ten types that most jobs failed of.",
            Query(
                f"topk(10, sum by (type) (increase(jobs_failed_total{{{QUEUES}}}[$__rate_interval])))",
                "{{type}}",
            ),
            stacked=True,
        ),
        over_time(
            "There now",
            "Jobs that are failed now.",
            Query(f"max by (queue) (queue_dead_letters{{{QUEUES}}})", "{{queue}}"),
        ),
        over_time(
            "Part of the attempts that ended a job",
            "Dead letters among all jobs that ended.",
            Query(
                f"sum by (queue) (rate(jobs_failed_total{{{QUEUES}}}[$__rate_interval]))"
                f' / sum by (queue) (rate(jobs_processed_total{{{QUEUES}, status=~"completed|failed"}}'
                "[$__rate_interval]))",
                "{{queue}}",
            ),
            unit="percentunit",
        ),
    ],
)

RETRIES = Section(
    "Retries",
    [
        over_time(
            "Retried, by type",
            "Attempts that failed and are followed by another one.",
            Query(
                f"topk(10, sum by (type) (rate(jobs_retried_total{{{QUEUES}}}[$__rate_interval])))",
                "{{type}}",
            ),
            unit="ops",
        ),
        over_time(
            "Circuit breakers",
            "0 closed, 1 open, 2 half-open and letting probes in.",
            Query("max by (type) (breaker_state)", "{{type}}"),
        ),
    ],
)

SERVICE = Section(
    "What the service did",
    [
        over_time(
            "Background roles that failed",
            "Rounds or parts of them that failed or were postponed; and jobs that no reader can hold, "
            "set aside.",
            Query("sum by (service) (increase(service_failures_total[$__rate_interval]))", "{{service}}"),
            Query(
                "sum by (queue) (increase(jobs_set_aside_total[$__rate_interval]))", "set aside in {{queue}}"
            ),
            parts=3,
        ),
        over_time(
            "Rounds of background roles, p99",
            "How long one takes.",
            Query(
                "histogram_quantile(0.99, sum by (le, service) "
                "(rate(service_round_duration_seconds_bucket[$__rate_interval])))",
                "{{service}}",
            ),
            unit="s",
            parts=3,
        ),
        over_time(
            "Rare events",
            "Cancels without the worker, breakers that opened, blocked jobs that nobody had released.",
            Query("sum(increase(cancels_forced_total[$__rate_interval]))", "cancels forced"),
            Query("sum(increase(breaker_opened_total[$__rate_interval]))", "breakers opened"),
            Query("sum(increase(jobs_left_blocked_total[$__rate_interval]))", "left blocked"),
            parts=3,
        ),
        over_time(
            "Ticks of schedules",
            "By what was decided.",
            Query("sum by (outcome) (increase(schedule_ticks_total[$__rate_interval]))", "{{outcome}}"),
        ),
        over_time(
            "Bulk operations",
            "Jobs that they changed, and how many of them ended.",
            Query(
                "sum by (action) (increase(bulk_jobs_changed_total[$__rate_interval]))", "{{action}}: jobs"
            ),
            Query(
                "sum by (action, state) (increase(bulk_operations_total[$__rate_interval]))",
                "{{action}}: {{state}}",
            ),
        ),
    ],
)

DASHBOARD = dashboard(
    "failures",
    "Failures",
    "What fails, how often, and what the service does about it.",
    [DEAD_LETTERS, RETRIES, SERVICE],
    by_queue=True,
)
