"""The report of a run directory: one page with figures, numbers and sliders."""

from betavae_jax.report.page import write_report

__all__ = ["write_report"]
