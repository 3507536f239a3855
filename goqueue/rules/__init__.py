"""What the features mean, without a server: settings and what is wrong with them, decisions, sentences."""
