"""Every metric, declared once. Nothing else creates one."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

JOBS_CREATED = Counter("jobs_created_total", "Jobs accepted: committed rows.", ["queue"])
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
LEASES_EXPIRED = Counter("leases_expired_total", "Workers whose lease was ended because they fell silent.")
