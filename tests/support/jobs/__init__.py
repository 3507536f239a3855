"""Job types that workers of the tests load, most of them by dotted name (`GOQUEUE_ACTORS`)."""
