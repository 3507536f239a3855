"""The values that handlers are given besides their payloads: of the process, and of the job."""
