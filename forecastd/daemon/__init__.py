"""The daemon: pipeline, supervisor, control, events, and what it tells systemd."""
