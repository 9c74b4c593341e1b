"""How large, how fast and how hungry is each encoder?

    python benchmarks/encoders.py --repeats 5
    python benchmarks/encoders.py --sizes

All encoders at their default sizes, for one channel in three dimensions, group norm, an embedding
of 128. `smallest` is the smallest input along an axis, in voxels; `stride` the voxels of the input
for one of the deepest map; `pyramid` the strides of the feature pyramid. `--sizes` prints these
alone, which no load on the machine changes.

- `time`: one volume of 48 x 96 x 80 voxels embedded without gradients, in float32, times as long
  as by resnet18. Each encoder runs in a process of its own, in turn with resnet18: the median over
  repeats of the ratio of the two, each first every other time, after a turn that does not count.
- `peak MB`: the largest resident memory of a process that does nothing but build the encoder and
  run one such volume forward and backward (Linux only). It holds Python and the libraries, whose
  memory is that of the row `nothing`, but no optimiser.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from hemitwin.models import BUILDERS, EncoderConfig, build_encoder, count_parameters

GATED = "unet_encoder+attention"
NAMES = sorted([*BUILDERS, GATED], key=lambda name: [*BUILDERS].index(name.partition("+")[0]))
REFERENCE = "resnet18"
SIZE = (48, 96, 80)
NOTHING = "nothing"


def main() -> None:
    arguments = parse()
    if arguments.worker:
        torch.set_num_threads(arguments.threads)
        measure = {"time": relative_time, "memory": peak_mb}[arguments.worker]
        print(json.dumps(measure(arguments.encoders[0], arguments.repeats)))
        return
    print(f"torch {torch.__version__}", end="")
    if arguments.sizes:
        print("\n")
    else:
        shape = " x ".join(map(str, SIZE))
        print(f"; {arguments.threads} threads; load {load()}; 1 x {shape}\n")
    header = f"{'encoder':<22} {'parameters':>11} {'smallest':>8} {'stride':>6}  {'pyramid':<16}"
    print(header if arguments.sizes else f"{header} {'time':>6} {'peak MB':>8}")
    for name in arguments.encoders:
        row = sizes(name)
        if not arguments.sizes:
            ratio, peak = (start(kind, name, arguments) for kind in ("time", "memory"))
            row += f" {ratio:6.2f} {peak:8.0f}"
        print(row, flush=True)
    if not arguments.sizes:
        print(f"{NOTHING:<67} {'':>6} {start('memory', NOTHING, arguments):8.0f}")
        print(f"\nload {load()}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", nargs="+", default=NAMES, metavar="NAME")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--sizes", action="store_true", help="measure neither time nor memory")
    parser.add_argument("--worker", choices=("time", "memory"), help=argparse.SUPPRESS)
    return parser.parse_args()


def load() -> str:
    return ", ".join(f"{value:.1f}" for value in os.getloadavg())


def config_of(name: str) -> EncoderConfig:
    architecture, _, gates = name.partition("+")
    return EncoderConfig(name=architecture, attention=True if gates else None)


def sizes(name: str) -> str:
    config = config_of(name)
    with torch.device("meta"):  # shapes without numbers
        encoder = BUILDERS[config.name](config)
    strides = " ".join(map(str, encoder.pyramid_strides))
    return (
        f"{name:<22} {count_parameters(encoder):11,} {config.minimum_size:8} "
        f"{config.total_stride:6}  {strides:<16}"
    )


def start(kind: str, name: str, arguments: argparse.Namespace) -> float:
    options = ["--worker", kind, "--encoders", name, "--repeats", str(arguments.repeats)]
    options += ["--threads", str(arguments.threads)]
    done = subprocess.run(  # noqa: S603
        [sys.executable, __file__, *options], check=True, stdout=subprocess.PIPE, text=True
    )
    return float(json.loads(done.stdout))


def volume() -> torch.Tensor:
    return torch.rand(1, 1, *SIZE, generator=torch.Generator().manual_seed(0))


def relative_time(name: str, repeats: int) -> float:
    """Time the encoder and the reference in turn."""
    contestants = [build_encoder(config_of(n)).eval() for n in (name, REFERENCE)]
    image = volume()

    def seconds(index: int) -> float:
        started = time.perf_counter()
        contestants[index](image)
        return time.perf_counter() - started

    ratios = []
    with torch.inference_mode():
        for turn in range(repeats + 1):
            order = (0, 1) if turn % 2 else (1, 0)
            spent = {index: seconds(index) for index in order}
            ratios.append(spent[0] / spent[1])
    return statistics.median(ratios[1:])


def peak_mb(name: str, _: int) -> float:
    """Run forward and backward once; the high-water mark begins anew with each program."""
    if name != NOTHING:
        build_encoder(config_of(name)).train()(volume()).sum().backward()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
