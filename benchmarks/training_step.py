"""How fast is a training step, and what of the machine does it use?

    python benchmarks/training_step.py --repeats 5

Forward and backward of 8 volumes of 48 x 96 x 80 voxels through a ResNet-18 of width 64:

- `MONAI`: `monai.networks.nets.resnet18` as it comes (batch norm), float32, one stride-2 stem with
  pooling as in ours.
- `hemitwin, float32`: ours (group norm), contiguous.
- `hemitwin, channels last`: the same in `channels_last_3d`.
- `hemitwin`: as `hemitwin train` runs it, which takes bf16 where the processor has units for it.
  The first line says whether it has; without them the two last rows are the same.

A second table is of maps: the same eight volumes as four pairs, each voxel of which gets a logit.

- `MONAI`: `monai.networks.nets.UNet` of the pair as two channels, 16 to 64 wide, float32.
- `hemitwin, float32` and `hemitwin`: a U-Net decoder of both halves, as wide, on blocks of 2^3
  voxels as channels (`input.packing`), with the other half's.

All take turns in one process; `ratio` is the median over repeats of MONAI's time by theirs, each
round in another order, after a round that does not count. `of peak`: floating-point operations of
the convolutions by the time, of the fastest single convolution found in the same precision (3^3,
64, 128 or 256 channels, batch of 8, forward). `--device cuda` adds a row with `torch.compile`.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from monai.networks.nets import UNet, resnet18
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hemitwin.models import (
    EncoderConfig,
    HeadConfig,
    InputChannels,
    InputConfig,
    SiameseNetwork,
    build_encoder,
    build_head,
)
from hemitwin.pipeline.training.task import resolve_precision

SHAPE = (8, 1, 48, 96, 80)
PEAKS = ((64, 24, 40), (128, 12, 20), (256, 8, 12))
"""Channels and size of the convolutions that the peak is looked for among."""


@dataclass(frozen=True, eq=False)
class Contestant:
    """A network and how it is run."""

    network: Callable[[Tensor], Tensor]
    layout: torch.memory_format
    bf16: bool

    def step(self, images: Tensor) -> None:
        images = images.contiguous(memory_format=self.layout)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.network(images).float().square().mean()
        loss.backward()


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    bf16 = resolve_precision("auto", device) == "bf16-mixed"
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    units = "bf16 units" if bf16 else "no bf16 units"
    print(
        f"torch {torch.__version__}; {device}, {arguments.threads} threads, {units}; load {load}\n"
    )
    images = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)).to(device)
    peak = {precision: peak_flops(device, bf16=precision) for precision in {False, bf16}}
    for title, contestants in (
        ("embeddings", contestants_on(device, bf16=bf16)),
        ("maps", mapping_on(device, bf16=bf16)),
    ):
        times = race(contestants, images, arguments.repeats)
        print(f"{title:<26} {'ratio':>6} {'GFLOP/s':>8} {'of peak':>7}")
        for name, contestant in contestants.items():
            pairs = zip(times["MONAI"], times[name], strict=True)
            ratio = statistics.median(one / other for one, other in pairs)
            speed = flops(contestant, images) / statistics.median(times[name])
            share = speed / peak[contestant.bf16]
            print(f"{name:<26} {ratio:6.2f} {speed / 1e9:8.0f} {share:7.2f}")
        print()
    for precision, value in peak.items():
        print(f"peak, {'bf16' if precision else 'float32'}: {value / 1e9:.0f} GFLOP/s")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def contestants_on(device: torch.device, *, bf16: bool) -> dict[str, Contestant]:
    plain, last = torch.contiguous_format, torch.channels_last_3d
    config = EncoderConfig(name="resnet18")

    def ours(layout: torch.memory_format) -> nn.Module:
        network = build_encoder(config, torch.Generator().manual_seed(0)).to(device)
        # torch's own stubs do not know the overload with a memory format alone.
        return network.to(memory_format=layout)  # type: ignore[call-overload, no-any-return]

    monai = resnet18(
        spatial_dims=3, n_input_channels=1, num_classes=config.embedding_dim, conv1_t_stride=2
    )
    found = {
        "MONAI": Contestant(monai.to(device).train(), plain, bf16=False),
        "hemitwin, float32": Contestant(ours(plain), plain, bf16=False),
        "hemitwin, channels last": Contestant(ours(last), last, bf16=False),
        "hemitwin": Contestant(ours(last), last, bf16=bf16),
    }
    if device.type == "cuda":
        found["hemitwin, compiled"] = Contestant(torch.compile(ours(last)), last, bf16=bf16)
    return found


def mapping_on(device: torch.device, *, bf16: bool) -> dict[str, Contestant]:
    """Give the networks that map pairs; each takes the volumes of all left halves first."""
    plain, last = torch.contiguous_format, torch.channels_last_3d
    whole = UNet(
        spatial_dims=3, in_channels=2, out_channels=2, channels=(16, 32, 64), strides=(2, 2),
        num_res_units=2,
    ).to(device)  # fmt: skip

    def monai(images: Tensor) -> Tensor:
        maps: Tensor = whole(torch.cat(images.chunk(2), dim=1))
        return maps

    seen = InputConfig(packing=2, other=True)
    channels = sum(InputChannels(seen).widths(1, 3).values())
    encoder = build_encoder(
        EncoderConfig(name="unet_encoder", width=16, levels=3, in_channels=channels)
    )
    head = build_head(HeadConfig(name="decoder", decoder_width=16, fine_rounds=2), encoder)
    network = SiameseNetwork(encoder, head, inputs=seen).to(device).train()

    def ours(images: Tensor) -> Tensor:
        left, right = images.chunk(2)
        inputs = network.seen.of_pair(left, right)
        if torch.is_autocast_enabled(device.type):
            inputs = inputs.to(torch.get_autocast_dtype(device.type))
        inputs = inputs.contiguous(memory_format=last)
        anomaly = network.compare(inputs, tuple(left.shape[2:])).anomaly
        assert anomaly is not None  # noqa: S101 (a decoder's)
        return anomaly

    return {
        "MONAI": Contestant(monai, plain, bf16=False),
        "hemitwin, float32": Contestant(ours, plain, bf16=False),
        "hemitwin": Contestant(ours, plain, bf16=bf16),
    }


def race(
    contestants: dict[str, Contestant], images: Tensor, repeats: int
) -> dict[str, list[float]]:
    """Time each in turn, beginning with another one each round."""
    names = list(contestants)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats + 1):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            times[name].append(timed(partial(contestants[name].step, images), images))
    return {name: spent[1:] for name, spent in times.items()}


def timed(work: Callable[[], object], images: Tensor) -> float:
    if images.is_cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def flops(contestant: Contestant, images: Tensor) -> float:
    """Count a step's floating-point operations: convolutions and matrix products."""
    counter = FlopCounterMode(display=False)
    with counter:
        contestant.step(images)
    return float(counter.get_total_flops())


def peak_flops(device: torch.device, *, bf16: bool) -> float:
    """Return what the fastest of a few convolutions reaches."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    speeds = []
    for channels, *sizes in PEAKS:
        for size in sizes:
            layer = nn.Conv3d(channels, channels, 3, padding=1, bias=False).to(device, dtype)
            images = torch.rand(8, channels, size, size, size, device=device, dtype=dtype)
            images = images.contiguous(memory_format=torch.channels_last_3d)
            layer.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
            with torch.inference_mode():
                spent = min(timed(partial(layer, images), images) for _ in range(5))
            speeds.append(2 * 27 * channels**2 * 8 * size**3 / spent)
    return max(speeds)


if __name__ == "__main__":
    main()
