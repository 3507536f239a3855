"""Every change of a job's state: statements that name the state they leave and the fence they hold."""
