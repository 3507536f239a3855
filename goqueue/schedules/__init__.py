"""Jobs that are created again and again: cron lines, blackouts, ticks, and the role that fires them."""
