"""What holds for every test."""

import os

import torch
from hypothesis import settings

# A busy machine is no failure: times are measured by benchmarks.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # the workers have the cores already
