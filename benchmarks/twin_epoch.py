"""What does an epoch over twin pairs cost, and what made it cheaper?

    python benchmarks/twin_epoch.py --pairs 4 --encoders unet_encoder resnet18 densenet121

Released code for twins (github.com/matthewkenely/3d-siamese-twin-ranking, commit c59ee21) makes of
every pair, in both directions, three triplets with mined negatives. Each triplet's three volumes
pass the network, forward and backward, after one pass over all volumes without gradients that the
mining reads. Here each volume passes once, and triplets are mined among the embeddings of the
batch. The same encoder at its default width, volumes of 86 x 103 x 86 voxels, embeddings of 128,
made-up images.

- `theirs`: as above, float32, contiguous; two triplets a batch.
- `once`: each volume once, batch-hard mining; float32, contiguous.
- `ours`: `once` in `channels_last_3d`, and in bf16 where the processor has units for it; the first
  line says so.

The three take turns, each round in another order; ratios are medians over rounds of `theirs` by
the other. `reading`: milliseconds to have a volume as a tensor that was met before. Theirs keeps a
NumPy array and copies it at each visit (nine a volume and epoch, one for mining); ours copies it
out of a memory-mapped file once. `peak MB` is that of a process with this way alone (Linux only).

An epoch is not the same learning: theirs makes more, smaller steps over each volume; ours sees, in
one step, every triplet of the batch.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hemitwin.models import (
    DistanceHead,
    Encoder,
    EncoderConfig,
    EncoderName,
    Items,
    LossConfig,
    Objective,
    build_encoder,
    relate_brains,
)
from hemitwin.pipeline.training.task import resolve_precision

SHAPE = (86, 103, 86)
NEGATIVES = 3
WAYS = ("theirs", "once", "ours")
MARGIN = 0.1


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    if arguments.worker:
        images = volumes(arguments.pairs)
        epoch(arguments.worker, encoder_of(arguments.encoders[0], arguments.worker), images)
        print(json.dumps(peak_mb()))
        return
    bf16 = resolve_precision("auto", torch.device("cpu")) == "bf16-mixed"
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    units = "bf16 units" if bf16 else "no bf16 units"
    print(f"torch {torch.__version__}; {arguments.threads} threads, {units}; load {load}")
    size = " x ".join(map(str, SHAPE))
    print(f"{arguments.pairs} pairs of {size} voxels, {arguments.repeats} rounds")
    kept, mapped = reading(arguments.repeats)
    print(f"reading: theirs {1e3 * kept:.1f} ms, ours {1e3 * mapped:.1f} ms a volume and visit\n")
    print(f"{'encoder':<14} {'once':>6} {'ours':>6}   {'seconds':>21}   {'peak MB':>21}")
    for name in arguments.encoders:
        print(row(name, arguments), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument(
        "--encoders", nargs="+", default=["unet_encoder", "resnet18", "densenet121"]
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--worker", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


def row(name: EncoderName, arguments: argparse.Namespace) -> str:
    images = volumes(arguments.pairs)
    encoders = {way: encoder_of(name, way) for way in WAYS}
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(arguments.repeats):
        for way in WAYS[turn % 3 :] + WAYS[: turn % 3]:
            started = time.perf_counter()
            epoch(way, encoders[way], images)
            times[way].append(time.perf_counter() - started)
    ratios = {
        way: statistics.median(a / b for a, b in zip(times["theirs"], times[way], strict=True))
        for way in WAYS
    }
    medians = " ".join(f"{statistics.median(times[way]):6.1f}" for way in WAYS)
    peaks = " ".join(f"{alone(way, name, arguments):6.0f}" for way in WAYS)
    return f"{name:<14} {ratios['once']:6.2f} {ratios['ours']:6.2f}   {medians}   {peaks}"


def volumes(pairs: int) -> Tensor:
    return torch.rand(2 * pairs, 1, *SHAPE, generator=torch.Generator().manual_seed(0))


def encoder_of(name: EncoderName, way: str) -> Encoder:
    encoder = build_encoder(EncoderConfig(name=name), torch.Generator().manual_seed(0)).train()
    if way == "ours":
        # torch's own stubs do not know the overload with a memory format alone.
        encoder.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return encoder


def epoch(way: str, encoder: Encoder, images: Tensor) -> None:
    """Pass over all pairs once; gradients gather, no optimiser steps."""
    if way == "theirs":
        for anchor, positive, negative in mined_triplets(encoder, images):
            loss = F.relu(MARGIN + distance(anchor, positive) - distance(anchor, negative))
            loss.mean().backward()
        return
    count = len(images)
    pairs = torch.arange(count) // 2
    items = Items(pairs, torch.arange(count), pairs, torch.zeros(count, dtype=torch.bool))
    layout = torch.channels_last_3d if way == "ours" else torch.contiguous_format
    bf16 = way == "ours" and resolve_precision("auto", torch.device("cpu")) == "bf16-mixed"
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        embeddings = encoder(images.contiguous(memory_format=layout)).float()
    objective = Objective(LossConfig(margin=MARGIN), "cosine")
    objective(embeddings, relate_brains(items, items), DistanceHead("cosine")).backward()


def mined_triplets(encoder: Encoder, images: Tensor) -> Iterator[list[Tensor]]:
    """Embed three volumes a triplet, two triplets at a time, after a pass that mining reads."""
    with torch.no_grad():
        embedded = F.normalize(torch.cat([encoder(part) for part in images.split(2)]))
    apart = torch.cdist(embedded, embedded)
    triplets = []
    for anchor in range(len(images)):
        positive = anchor ^ 1
        apart[anchor, [anchor, positive]] = torch.inf
        nearest = apart[anchor].topk(NEGATIVES, largest=False).indices.tolist()
        triplets += [(anchor, positive, negative) for negative in nearest]
    for rows in torch.tensor(triplets).split(2):
        yield [encoder(images[one]) for one in rows.T]


def distance(one: Tensor, other: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(one, other)


def reading(repeats: int) -> tuple[float, float]:
    """Return the seconds a visit to a volume costs each way: a kept array, a memory map."""
    array = np.random.default_rng(0).random(SHAPE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.npy"
        np.save(path, array.astype(np.float32))
        mapped = np.load(path, mmap_mode="r")
        ways = (
            lambda: torch.tensor(array, dtype=torch.float32),
            lambda: torch.from_numpy(np.array(mapped)),
        )
        times: list[list[float]] = [[], []]
        for _ in range(repeats + 1):
            for spent, way in zip(times, ways, strict=True):
                started = time.perf_counter()
                way()
                spent.append(time.perf_counter() - started)
    kept, own = (statistics.median(spent[1:]) for spent in times)
    return kept, own


def alone(way: str, name: str, arguments: argparse.Namespace) -> float:
    options = ["--worker", way, "--encoders", name, "--pairs", str(arguments.pairs)]
    options += ["--threads", str(arguments.threads)]
    done = subprocess.run(  # noqa: S603
        [sys.executable, __file__, *options], check=True, stdout=subprocess.PIPE, text=True
    )
    return float(json.loads(done.stdout))


def peak_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
