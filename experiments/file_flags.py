"""Flags of drivers that read one run or write one thing."""

from absl import flags

RUN = flags.DEFINE_integer("run", None, "One run of a population, counted from 0.")
OUTPUT = flags.DEFINE_string("output", None, "What to write: see the driver's first lines.")
