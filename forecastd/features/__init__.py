"""What a network sees of a series: one meaning for training, batch scoring and the daemon."""
