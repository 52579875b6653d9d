"""Drivers, called in this process."""

import signal
import sys

import pytest
from absl.testing import flagsaver

from betavae_jax.fit import program_of
from betavae_jax.fit_directory import fit_directory
from betavae_jax.runs.directory import locked, prepare_directory
from betavae_jax.runs.machine import describe_program
from betavae_jax.runs.settings import to_config
from experiments import cli


@pytest.fixture
def invoke_driver(monkeypatch, capsys):
    """Calls a driver's main: (exit code, standard output, standard error)."""

    def call(main, *arguments):
        monkeypatch.setattr(sys, "argv", ["driver", *map(str, arguments)])
        saved = flagsaver.save_flag_values()
        handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            with pytest.raises(SystemExit) as exit_info:
                cli.run(main)
        finally:
            # Flags of modules that the driver was the first to import stay defined.
            flagsaver.restore_flag_values({**flagsaver.save_flag_values(), **saved})
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return exit_info.value.code, *capsys.readouterr()

    return call


@pytest.fixture(scope="session")
def train():
    """Trains in a folder, without results: `train(workdir, experiment)`, which returns it."""

    def call(workdir, experiment):
        with locked(workdir):
            config = to_config(experiment.settings, describe_program(experiment, 1))
            prepare_directory(workdir, config, {}, overwrite=False)
            fit_directory(experiment, program_of(experiment), workdir, show_progress=False)
        return workdir

    return call
