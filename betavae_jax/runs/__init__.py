"""The run directory: settings, lock, checkpoints, log and results."""
