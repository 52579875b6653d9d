"""Flags of drivers that read one run or write one thing."""

from absl import flags

from experiments.path_flags import define_path

RUN = flags.DEFINE_integer("run", None, "One run of a population, counted from 0.")
OUTPUT = define_path("output", None, "What to write: see the driver's first lines.")
