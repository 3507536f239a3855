"""The dashboard of workers: are there enough, and do they get their jobs and get rid of their results?"""

from __future__ import annotations

from deploy.grafana.panels import Query, Section, Steps, dashboard, number, over_time, times

NOW = Section(
    None,
    [
        number("Processes", "Those that hold a lease.", "max(workers_live)", steps=Steps(2, 1, falling=True)),
        number("Threads", "Of the live processes.", "max(worker_threads)"),
        number("Busy", "Threads that had a job at the last heartbeat.", "max(worker_threads_busy)"),
        number(
            "Not recorded yet",
            "Outcomes that wait for PostgreSQL, over all groups of workers.",
            "sum(recorder_pending)",
            steps=Steps(1000, 5000),
        ),
        number(
            "Lost, last hour",
            "Processes whose lease was ended because they fell silent.",
            "round(sum(increase(leases_expired_total[1h])))",
            steps=Steps(1, 5),
        ),
        number(
            "Stale results, last hour",
            "Outcomes that were refused: the job had been taken from the worker.",
            "round(sum(increase(stale_results_total[1h])))",
            steps=Steps(1, 50),
        ),
    ],
)

THREADS = Section(
    "Threads and async slots",
    [
        over_time(
            "Threads",
            "All of the live processes, and those that have a job.",
            Query("max(worker_threads)", "all"),
            Query("max(worker_threads_busy)", "busy"),
        ),
        over_time(
            "Async slots",
            "How many async jobs the live processes run at once at most, and how many they run.",
            Query("max(worker_async_slots)", "all"),
            Query("max(worker_async_slots_busy)", "busy"),
        ),
        over_time(
            "Processes, by queue",
            "Live worker processes that serve the queue.",
            Query("max by (queue) (queue_workers_live)", "{{queue}}"),
        ),
    ],
)

CLAIMS = Section(
    "Getting jobs",
    [
        over_time(
            "Claim",
            "One claim of a batch of jobs in PostgreSQL.",
            *times("claim_duration_seconds"),
            unit="s",
            parts=2,
        ),
        over_time(
            "Pushed by the dispatcher",
            "The others were pushed by whoever created them.",
            Query("sum(rate(jobs_dispatched_total[$__rate_interval]))", "pushed"),
            unit="ops",
            parts=2,
        ),
        over_time(
            "Deliveries without a job",
            "Messages whose claim returned no row, and entries that are no messages.",
            Query("sum(rate(stale_deliveries_total[$__rate_interval]))", "stale"),
            Query("sum(rate(garbage_messages_total[$__rate_interval]))", "garbage"),
            unit="ops",
            parts=2,
        ),
        over_time(
            "Given back before they began",
            "By why: busy threads, another worker that waited, a pause, a cancel, an expiry, a stop.",
            Query("sum by (reason) (rate(jobs_given_back_total[$__rate_interval]))", "{{reason}}"),
            unit="ops",
            parts=2,
        ),
        over_time(
            "Async handlers",
            "Those that held up the event loop of their process, and those that would not end.",
            Query("sum by (type) (rate(event_loop_blocks_total[$__rate_interval]))", "{{type}} blocks"),
            Query(
                "sum by (type) (rate(async_handlers_given_up_total[$__rate_interval]))", "{{type}} given up"
            ),
            unit="ops",
            parts=2,
        ),
        over_time(
            "Replaced processes",
            "By why: a number of jobs, or a size.",
            Query("sum by (reason) (increase(workers_recycled_total[$__rate_interval]))", "{{reason}}"),
            parts=2,
        ),
    ],
)

BATCHES = Section(
    "Batches",
    [
        over_time(
            "Jobs in a batch",
            "On average, by type: one call of the handler for so many.",
            Query(
                "sum by (type) (rate(batch_size_sum[$__rate_interval]))"
                " / sum by (type) (rate(batch_size_count[$__rate_interval]))",
                "{{type}}",
            ),
            parts=2,
        ),
        over_time(
            "Calls of batch handlers",
            "By type.",
            Query("sum by (type) (rate(batch_size_count[$__rate_interval]))", "{{type}}"),
            unit="ops",
            parts=2,
        ),
    ],
)

RESULTS = Section(
    "Recording results",
    [
        over_time(
            "Recording a batch",
            "An outage of PostgreSQL included.",
            *times("recorder_duration_seconds"),
            unit="s",
            parts=3,
        ),
        over_time(
            "Outcomes in a commit",
            "On average.",
            Query(
                "sum(rate(recorder_batch_size_sum[$__rate_interval]))"
                " / sum(rate(recorder_batch_size_count[$__rate_interval]))",
                "outcomes",
            ),
            parts=3,
        ),
        over_time(
            "Not recorded yet",
            "By group of workers.",
            Query("sum by (instance) (recorder_pending)", "{{instance}}"),
            parts=3,
        ),
    ],
)

TROUBLE = Section(
    "Trouble",
    [
        over_time(
            "Jobs taken back",
            "From workers that are gone, by what they became.",
            Query("sum by (status) (increase(jobs_rescued_total[$__rate_interval]))", "{{status}}"),
            parts=3,
        ),
        over_time(
            "Fetching paused",
            "Because PostgreSQL or Redis did not answer.",
            Query("sum by (instance) (increase(fetching_paused_total[$__rate_interval]))", "{{instance}}"),
            parts=3,
        ),
        over_time(
            "Leases ended",
            "Of processes that fell silent.",
            Query("sum(increase(leases_expired_total[$__rate_interval]))", "ended"),
            parts=3,
        ),
    ],
)

DASHBOARD = dashboard(
    "workers",
    "Workers",
    "Are there enough workers, do they get their jobs, and do they get rid of their results?",
    [NOW, THREADS, CLAIMS, BATCHES, RESULTS, TROUBLE],
)
