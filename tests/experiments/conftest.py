"""Drivers, called in this process."""

import signal
import sys

import pytest
from absl.testing import flagsaver

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
