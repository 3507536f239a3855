"""The dashboard to look at first."""

from __future__ import annotations

from deploy.grafana.panels import Query, Section, Steps, dashboard, number, over_time, times

NOW = Section(
    None,
    [
        number(
            "Completed",
            "Jobs that completed, per second.",
            'sum(rate(jobs_processed_total{status="completed"}[$__rate_interval]))',
            unit="ops",
        ),
        number(
            "Dead letters, last hour",
            "Jobs that failed for good.",
            "round(sum(increase(jobs_failed_total[1h])))",
            steps=Steps(1, 50),
        ),
        number("Waiting", "Jobs that could start now.", "sum(max by (queue) (queue_depth))"),
        number(
            "Oldest waiting",
            "How long the oldest waiting job of any queue could have started already.",
            "max(queue_oldest_age_seconds)",
            unit="s",
            steps=Steps(30, 300),
        ),
        number(
            "Worker processes",
            "Those that hold a lease.",
            "max(workers_live)",
            steps=Steps(2, 1, falling=True),
        ),
        number(
            "Threads busy",
            "The part of the worker threads that has a job.",
            "max(worker_threads_busy) / (max(worker_threads) > 0)",
            unit="percentunit",
            steps=Steps(0.8, 0.95),
        ),
    ],
)

JOBS = Section(
    "Jobs",
    [
        over_time(
            "In and out",
            "Jobs accepted, and attempts that ended, by what became of the job.",
            Query("sum(rate(jobs_created_total[$__rate_interval]))", "created"),
            Query("sum by (status) (rate(jobs_processed_total[$__rate_interval]))", "{{status}}"),
            unit="ops",
        ),
        over_time(
            "Failing",
            "Attempts that will be tried again, and jobs that became dead letters.",
            Query("sum(rate(jobs_retried_total[$__rate_interval]))", "retried"),
            Query("sum(rate(jobs_failed_total[$__rate_interval]))", "dead letters"),
            unit="ops",
        ),
        over_time(
            "Wait",
            "From the moment at which a job could start to its claim by a worker.",
            *times("job_wait_seconds"),
            unit="s",
        ),
        over_time("Run time", "Of an attempt's handler.", *times("job_duration_seconds"), unit="s"),
    ],
)

QUEUES = Section(
    "Queues",
    [
        over_time(
            "Waiting jobs",
            "Jobs that could start now.",
            Query("max by (queue) (queue_depth)", "{{queue}}"),
            stacked=True,
        ),
        over_time(
            "Age of the oldest",
            "How long the oldest waiting job could have started already.",
            Query("max by (queue) (queue_oldest_age_seconds)", "{{queue}}"),
            unit="s",
        ),
    ],
)

SERVICE = Section(
    "Service",
    [
        over_time(
            "API answers",
            "By the status of the answer.",
            Query(
                "sum by (status) (rate(http_request_duration_seconds_count[$__rate_interval]))", "{{status}}"
            ),
            unit="reqps",
            parts=3,
            stacked=True,
        ),
        over_time(
            "API latency",
            "Answering one request.",
            *times("http_request_duration_seconds"),
            unit="s",
            parts=3,
        ),
        over_time(
            "Schedulers that lead",
            "One, always; the others stand by.",
            Query("sum(leader)", "lead"),
            Query("count(leader)", "run"),
            parts=3,
        ),
        over_time(
            "Dispatcher lag",
            "How late the dispatcher is with due jobs.",
            Query("max(dispatcher_lag_seconds)", "lag"),
            unit="s",
            parts=3,
            limit=Steps(2, 10),
        ),
        over_time(
            "Vacuum horizon",
            "The age of the oldest transaction that keeps PostgreSQL from removing dead rows.",
            Query("max(database_horizon_age_seconds)", "age"),
            unit="s",
            parts=3,
            limit=Steps(60, 300),
        ),
        over_time(
            "Partitions",
            "Where jobs are in partitions: how many there are, and how many jobs come before the last one.",
            Query("max(partitions)", "partitions"),
            Query("max(partition_ids_ahead)", "jobs ahead"),
            parts=3,
        ),
        over_time(
            "PostgreSQL answers",
            "1 where it answered the scrapes of every API process.",
            Query("min(database_up)", "up"),
            parts=3,
        ),
    ],
)

WEBHOOKS = Section(
    "Webhooks",
    [
        over_time(
            "Deliveries",
            "Events that webhooks are to be told of, and the calls of their receivers, by what came of them.",
            Query("sum(rate(webhook_deliveries_total[$__rate_interval]))", "to be delivered"),
            Query("sum by (outcome) (rate(webhook_attempts_total[$__rate_interval]))", "{{outcome}}"),
            unit="ops",
        ),
        over_time(
            "Disabled, and gaps",
            "Webhooks that were disabled because their receivers failed, and gaps in what one was told.",
            Query("sum(increase(webhooks_disabled_total[1h]))", "disabled"),
            Query("sum(increase(webhook_gaps_total[1h]))", "gaps"),
        ),
    ],
)

NAMESPACES = Section(
    "Namespaces",
    [
        over_time(
            "Waiting jobs",
            "Jobs of each namespace inside of the database that have not begun.",
            Query("max by (namespace) (namespace_waiting_jobs)", "{{namespace}}"),
        ),
        over_time(
            "Running jobs",
            "Jobs of each namespace inside of the database that run.",
            Query("max by (namespace) (namespace_running_jobs)", "{{namespace}}"),
        ),
        over_time(
            "Quotas that are used up",
            "The part of the quota of waiting jobs that each namespace has used.",
            Query(
                "max by (namespace) (namespace_waiting_jobs) / on (namespace) "
                'max by (namespace) (namespace_quota{quota="max_waiting_jobs"})',
                "{{namespace}}",
            ),
            unit="percentunit",
        ),
    ],
)

DASHBOARD = dashboard(
    "overview",
    "Overview",
    "Is the service well, how much does it do, and where does it wait?",
    [NOW, JOBS, QUEUES, SERVICE, WEBHOOKS, NAMESPACES],
)
