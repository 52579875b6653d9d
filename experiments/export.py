"""Exports a trained run for other programs, and reads it back to compare.

  python -m experiments.export --workdir=runs/NAME --format=onnx --output=exported
  python -m experiments.export --workdir=runs/NAME --run=3 \
      --format=stablehlo,safetensors,onnx --output=exported

docs/export.md tells what the files hold and how other frameworks load them.
"""

import pathlib

from absl import flags

from betavae_jax.checks import InputError
from betavae_jax.export import FORMATS, check_finished, check_output, export_run
from betavae_jax.representation import load
from experiments import cli
from experiments.file_flags import OUTPUT, RUN

flags.declare_key_flag(cli.WORKDIR.name)  # so that --help shows it
flags.declare_key_flag(RUN.name)
_FORMAT = flags.DEFINE_list("format", None, f"One or more of {', '.join(FORMATS)}.")
flags.declare_key_flag(OUTPUT.name)


def main() -> int:
    """Exports, and prints how far what was read back is from the model."""
    if not cli.WORKDIR.value or not OUTPUT.value or not _FORMAT.value:
        raise InputError(
            f"expected --workdir=DIRECTORY --format={'|'.join(FORMATS)} --output=FOLDER; got no "
            + ", ".join(
                name
                for name in ("workdir", "format", "output")
                if not flags.FLAGS.flag_values_dict()[name]
            )
        )
    output, run = pathlib.Path(OUTPUT.value), RUN.value or 0
    check_output(_FORMAT.value, output)
    representation = load(cli.WORKDIR.value, run)
    check_finished(representation)
    differences = export_run(representation, _FORMAT.value, output, run=run)
    for name, difference in differences.items():
        limit = FORMATS[name].tolerance
        print(f"{name}: largest difference {difference:.1e}, of at most {limit:.0e}")
    print(f"exported: {output}")
    return 0


if __name__ == "__main__":
    cli.run(main)
