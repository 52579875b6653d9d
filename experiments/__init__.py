"""Drivers: parse, build, run."""
