"""History on disk: open, check, prepare into a store, split. Never imports torch."""
