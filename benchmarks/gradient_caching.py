"""Does mining over hundreds of volumes fit in constant memory?

    python benchmarks/gradient_caching.py --counts 8 64 256

One training step (embed all, batch-hard triplet loss over all, backward) of resnet18 at width 16
on whole brains at 4 mm, one float32 volume after the other made up, with gradient caching
(`embed_in_chunks`) and without. Each cell is a process of its own.

- `mapped` is `cached` with `MALLOC_MMAP_THRESHOLD_=65536` in its environment: each large tensor
  gets pages of its own and gives them back. glibc's heap, left to itself, keeps the gaps between
  what small things of earlier chunks hold.
- `peak MB`: the largest resident memory of the process less that of one that makes the network and
  the same volumes and embeds none of them (Linux only).
- `seconds`: of the step.
- `difference`: the largest |difference| of the gradients with and without chunks, of the largest
  |gradient|, in float32.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from hemitwin.models import (
    DistanceHead,
    EncoderConfig,
    Items,
    LossConfig,
    Objective,
    build_encoder,
    embed_in_chunks,
    relate_brains,
)

SHAPE = (44, 52, 40)
CONFIG = EncoderConfig(name="resnet18", width=16, stem_stride=2)
WAYS = ("cached", "mapped", "whole")
NEVER = "never"
"""Embeds nothing: what a process holds anyway."""


def main() -> None:
    arguments = parse()
    if arguments.worker:
        print(json.dumps(step(arguments.worker, arguments)))
        return
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    shape = " x ".join(map(str, SHAPE))
    print(f"torch {torch.__version__}; {arguments.threads} threads; load {load}; {shape}")
    print(f"chunks of {arguments.chunk}\n")
    names = " ".join(f"{way:>7}" for way in WAYS)
    print(f"{'':>7} {'peak MB':>23} {'seconds':>23}")
    print(f"{'volumes':>7} {names} {names} difference")
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.counts:
            found = {way: start(way, count, arguments, folder) for way in WAYS}
            caching, plain = (
                torch.load(Path(folder) / f"{way}.pt") for way in ("cached", "whole")
            )
            worst = max(float((a - b).abs().max()) for a, b in zip(caching, plain, strict=True))
            worst /= max(float(gradient.abs().max()) for gradient in plain)
            base = start(NEVER, count, arguments, folder)["peak_mb"]
            peaks = " ".join(f"{one['peak_mb'] - base:7.0f}" for one in found.values())
            times = " ".join(f"{one['seconds']:7.1f}" for one in found.values())
            print(f"{count:7} {peaks} {times} {worst:10.1e}", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[8, 64, 256])
    parser.add_argument("--chunk", type=int, default=8, help="volumes at a time")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--worker", choices=(*WAYS, NEVER), help=argparse.SUPPRESS)
    parser.add_argument("--gradients", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def start(way: str, count: int, arguments: argparse.Namespace, folder: str) -> dict[str, float]:
    options = ["--worker", way, "--counts", str(count), "--chunk", str(arguments.chunk)]
    options += ["--threads", str(arguments.threads), "--gradients", f"{folder}/{way}.pt"]
    mapped = {"MALLOC_MMAP_THRESHOLD_": "65536"} if way == "mapped" else {}
    done = subprocess.run(  # noqa: S603
        [sys.executable, __file__, *options],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | mapped,
    )
    return dict(json.loads(done.stdout))


def step(way: str, arguments: argparse.Namespace) -> dict[str, float]:
    torch.set_num_threads(arguments.threads)
    count = arguments.counts[0]
    generator = torch.Generator().manual_seed(0)
    encoder = build_encoder(CONFIG, generator)
    images = torch.rand(count, 1, *SHAPE, generator=generator)
    images = images.contiguous(memory_format=torch.channels_last_3d)
    pairs = torch.arange(count) // 2
    items = Items(pairs, torch.arange(count), pairs, torch.zeros(count, dtype=torch.bool))
    started = time.perf_counter()
    if way != NEVER:
        chunk = None if way == "whole" else arguments.chunk
        embeddings = embed_in_chunks(encoder, images, chunk)
        relations = relate_brains(items, items)
        Objective(LossConfig())(embeddings, relations, DistanceHead("euclidean")).backward()
        torch.save([p.grad for p in encoder.parameters()], arguments.gradients)
    spent = time.perf_counter() - started
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return {"seconds": spent, "peak_mb": int(status.split("VmHWM:")[1].split()[0]) / 1024}


if __name__ == "__main__":
    main()
