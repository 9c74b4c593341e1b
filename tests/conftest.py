"""What holds for every test, and a runner of Connectome Workbench."""

import gc
import os
import shutil
import subprocess

import pytest
import torch
from hypothesis import settings

# A busy machine is no failure: times are measured by benchmarks.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # the workers have the cores already


def pytest_collection_finish():
    """Spare the garbage collector the millions of objects of modules that stay."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def wb_command():
    """Run `wb_command`; a message of trouble fails even where the exit code does not."""
    program = shutil.which("wb_command")
    if program is None:
        pytest.skip("wb_command is not installed (Debian: connectome-workbench)")

    def run(*arguments):
        done = subprocess.run(  # noqa: S603
            [program, *map(str, arguments)], capture_output=True, text=True, check=False
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        assert "ERROR" not in output, output
        assert "SEVERE" not in output, output
        return output

    return run
