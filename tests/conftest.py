"""What holds for every test, and a runner of Connectome Workbench."""

import gc
import os
import shutil
import subprocess
from functools import partial

# Tests run side by side and have the cores already. It is read when a library is loaded; the
# workers, which load some of them before this file, have it from the process that starts them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping
import pytest
from hypothesis import settings

# A busy machine is no failure: times are measured by benchmarks.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_check_shapes = jaxtyping.jaxtyped


def _spare_the_engines_closures(fn=None, **settings):
    """Check all but the closures of relevance propagation, which know plain tensors only.

    They are made anew for every layer of every map, and so would be what checks them.
    """
    if fn is None:
        return partial(_spare_the_engines_closures, **settings)
    inner = "<locals>" in getattr(fn, "__qualname__", "")
    if inner and fn.__module__.startswith("hemitwin.interpret.engine."):
        return fn
    return _check_shapes(fn, **settings)


jaxtyping.jaxtyped = _spare_the_engines_closures


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
