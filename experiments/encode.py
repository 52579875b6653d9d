"""Encodes a set of examples with a trained run, a batch at a time, into a file of codes.

  python -m experiments.encode --workdir=runs/NAME --output=codes.npz      # the run's own set
  python -m experiments.encode --workdir=runs/NAME --input=pictures --output=codes.csv
  python -m experiments.encode --workdir=runs/NAME --input=tfds:mnist --output=codes.parquet

Where factors are known, `python -m experiments.evaluate --codes=codes.npz` scores the codes.
"""

import pathlib
import sys

from absl import flags
from tqdm import tqdm

from betavae_jax.checks import InputError
from betavae_jax.export.code_files import check_code_file
from betavae_jax.export.encoding import count_examples, encode_to_file, open_input
from betavae_jax.representation import load
from experiments import cli
from experiments.file_flags import OUTPUT, RUN

flags.declare_key_flag(cli.WORKDIR.name)  # so that --help shows it
flags.declare_key_flag(RUN.name)
_INPUT = flags.DEFINE_string(
    "input",
    None,
    "A folder of pictures, a .npz, .npy, .h5, .csv or idx file, or a data set such as tfds:NAME;"
    " by default the run's own.",
)
flags.declare_key_flag(OUTPUT.name)
_SKIP_BAD = flags.DEFINE_boolean(
    "skip_bad",
    None,
    "Leave pictures of a folder out that cannot be read; by default as the run did.",
    allow_override=True,  # where drivers share a process, it is a setting of data sets too
)


def main() -> int:
    """Encodes, with a progress bar."""
    if not cli.WORKDIR.value or not OUTPUT.value:
        raise InputError(
            "expected --workdir=DIRECTORY --output=codes.npz; got no "
            + ("workdir" if not cli.WORKDIR.value else "output")
        )
    output, run = pathlib.Path(OUTPUT.value), RUN.value or 0
    check_code_file(output)
    representation = load(cli.WORKDIR.value, run)
    streams = open_input(representation, _INPUT.value, skip_bad=_SKIP_BAD.value)
    often = 0.2 if sys.stderr.isatty() else 10.0
    total = count_examples(streams)
    with tqdm(total=total, unit="example", mininterval=often, delay=1.0) as bar:
        count = encode_to_file(representation, streams, output, follow=bar.update)
    print(f"{count:,} codes of {representation.num_latents} latents: {output}")
    return 0


if __name__ == "__main__":
    cli.run(main)
