"""Training: the loop, its schedule, validation, and runs that can be resumed."""
