"""What holds for every test."""

from hypothesis import settings

# A busy machine is no failure: times are measured by benchmarks.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
