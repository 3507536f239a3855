"""The dispatch of ready rows to the runways, by rank, and as far as the limits of their queues allow."""
