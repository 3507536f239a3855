"""Events: what changed, for whoever wants to hear of it, in order and without a gap."""
