"""From ready rows to the runways: by rank, and for limited queues as far as their limits allow."""
