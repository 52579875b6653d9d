"""Measures of a representation, on plain arrays: codes `[N, D]`, factors `[N, K]`."""
