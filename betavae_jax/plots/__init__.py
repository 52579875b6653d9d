"""Figures: arrays in, files out."""
