"""Running processes: supervisors, the commands of the API and the workers, and checks before they serve."""
