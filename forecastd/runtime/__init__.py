"""Live state: the arena of all series, the steppers that advance it, and its checkpoint."""
