"""Accuracy: metrics, baselines, and forecasts of held-out data."""
