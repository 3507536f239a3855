"""Every metric, declared once. Nothing else creates one."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

JOBS_CREATED = Counter("jobs_created_total", "Jobs accepted: committed rows.", ["queue"])
JOBS_DEDUPLICATED = Counter(
    "jobs_deduplicated_total", "Creates that met the holder of their unique key.", ["queue"]
)
HTTP_REQUEST_DURATION = Histogram(
    "http_request_duration_seconds", "Answering one HTTP request.", ["method", "route", "status"]
)
JOBS_PROCESSED = Counter(
    "jobs_processed_total", "Attempts that ended, by what the job became.", ["queue", "status"]
)
JOB_DURATION = Histogram("job_duration_seconds", "Running one attempt's handler.", ["queue"])
STALE_RESULTS = Counter("stale_results_total", "Outcomes refused because the job was no longer held.")
STALE_DELIVERIES = Counter("stale_deliveries_total", "Messages whose claim returned no row.")
GARBAGE_MESSAGES = Counter("garbage_messages_total", "Runway entries that are no messages.")
SCHEDULE_TICKS = Counter("schedule_ticks_total", "Ticks of schedules, by what was decided.", ["outcome"])
LEASES_EXPIRED = Counter("leases_expired_total", "Workers whose lease was ended because they fell silent.")
CANCELS_FORCED = Counter(
    "cancels_forced_total", "Jobs cancelled without their worker, which did not stop them in time."
)
JOBS_EXPIRED = Counter("jobs_expired_total", "Jobs whose time passed before they were started.", ["queue"])
LEFT_BLOCKED = Counter(
    "jobs_left_blocked_total", "Blocked jobs that the releaser found: nobody told them of their parents' end."
)
QUEUES_SLOWED_DOWN = Counter("queues_slowed_down_total", "Slow-downs that handlers asked for.", ["queue"])
BREAKER_STATE = Gauge(
    "breaker_state", "Circuit breakers: 0 closed, 1 open, 2 half-open and letting probes in.", ["type"]
)
BREAKER_OPENED = Counter("breaker_opened_total", "Circuit breakers that opened.", ["type"])
BULK_OPERATIONS = Counter(
    "bulk_operations_total", "Bulk operations that ended, by how they did.", ["action", "state"]
)
BULK_JOBS_CHANGED = Counter("bulk_jobs_changed_total", "Jobs that bulk operations changed.", ["action"])
