"""What do a pair's explanation and 128 targets cost?

    python benchmarks/many_targets.py

- **A pair**: ResNet-18, U-Net encoder and the Siamese decoder on 48 x 96 x 80 voxels a side. The
  distance (the logit, of the decoder) explained under the epsilon and the generalised gamma rule,
  against one forward pass of the pair without gradients, both in float32.
- **128 targets**: each dimension of a ResNet-18's embedding (width 64) of one volume. HemiTwin:
  one forward pass, and as many targets at a time as `--memory-mb` holds. `single`: HemiTwin's rule
  target by target, forward and backward pass each. `captum`: the same with Captum's input x
  gradient, which is what LRP-epsilon is in rectifier networks without biases (Captum's own LRP
  fails on this network). `bare`: torch's gradient of the image for each target, out of one graph.
  The last three are timed for `--targets` targets and given for each.
- **zennit** (where it is installed), on a chain of convolutions, on which it is right: its
  epsilon rule target by target, against HemiTwin's; and the largest difference of both maps.
  zennit imports torchvision for what is not needed here: a stub stands in for it.

Peak MB is the largest resident memory of a process of its own, less what it held before (Linux).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path

import torch
from captum.attr import InputXGradient
from torch import Tensor, nn

from hemitwin.interpret import Lrp, LrpConfig, explain_embeddings, explain_pair, explain_score
from hemitwin.models import EncoderConfig, HeadConfig, SiameseNetwork, build_encoder, build_head

SHAPE = (48, 96, 80)
TARGETS = 128
ENCODERS = {
    "resnet18": EncoderConfig(name="resnet18"),
    "resnet18, narrow": EncoderConfig(name="resnet18", width=16, stem_stride=2),
    "unet_encoder, narrow": EncoderConfig(name="unet_encoder", width=8, levels=4),
    "densenet121, narrow": EncoderConfig(name="densenet121", width=12, stem_stride=2),
}
DECODED = "unet_encoder, narrow"
WAYS = ("hemitwin", "single", "captum", "bare")


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    if arguments.worker:
        print(json.dumps(cost_of(arguments.worker, arguments)))
        return
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"hemitwin {version('hemitwin')}, torch {torch.__version__}, captum {version('captum')}")
    print(f"{arguments.threads} threads; load {load}; {' x '.join(map(str, SHAPE))} voxels\n")
    print(f"{'a pair':28} {'forward s':>9} {'epsilon':>8} {'gamma':>8}   times the forward pass")
    for name, forward, ratios in pairs(arguments.repeats):
        print(f"{name:28} {forward:9.3f} {ratios[0]:8.2f} {ratios[1]:8.2f}", flush=True)
    print(f"\n{TARGETS} targets, epsilon: {'s a target':>10} {'of ours':>8} {'peak MB':>8}")
    costs = {way: run_worker(way, arguments) for way in WAYS}
    for way, cost in costs.items():
        ratio = cost["seconds"] / costs["hemitwin"]["seconds"]
        print(f"{way:21} {cost['seconds']:10.3f} {ratio:8.2f} {cost['peak_mb']:8.0f}")
    if find_spec("zennit"):
        print("\nchain of convolutions, epsilon: s a target")
        for line in against_zennit(arguments.targets):
            print(line)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--targets", type=int, default=8, help="timed of the slow ways")
    parser.add_argument("--memory-mb", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


def network(config: EncoderConfig, head: str = "distance") -> SiameseNetwork:
    encoder = build_encoder(config)
    return SiameseNetwork(encoder, build_head(HeadConfig(name=head), encoder)).eval()


def pairs(repeats: int) -> Iterator[tuple[str, float, list[float]]]:
    left, right = torch.rand(2, 1, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    cases = [(name, config, "distance") for name, config in ENCODERS.items()]
    for name, config, head in [*cases, (f"{DECODED}, decoder", ENCODERS[DECODED], "decoder")]:
        model = network(config, head)
        with torch.no_grad():
            forward = median(partial(model, left, right), repeats)
        costs = (
            median(partial(explain, model, left, right, LrpConfig(rule=rule)), repeats)
            for rule in ("epsilon", "gamma")
        )
        yield name, forward, [cost / forward for cost in costs]


def explain(model: SiameseNetwork, left: Tensor, right: Tensor, rule: LrpConfig) -> object:
    if model.head.gives_logit:
        return explain_score(model, left, right, attrgetter("logit"), rule)
    return explain_pair(model, left, right, rule)


def median(work: Callable[[], object], repeats: int) -> float:
    work()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def run_worker(way: str, arguments: argparse.Namespace) -> dict[str, float]:
    options = [f"--{name}={getattr(arguments, name.replace('-', '_'))}" for name in OPTIONS]
    command = [sys.executable, __file__, "--worker", way, *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


OPTIONS = ("targets", "memory-mb", "threads")


def cost_of(way: str, arguments: argparse.Namespace) -> dict[str, float]:
    model = network(ENCODERS["resnet18"]).requires_grad_(requires_grad=False)
    image = torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.embed(image)
    before = resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    started = time.perf_counter()
    count = explain_all(way, model, image, arguments)
    seconds = (time.perf_counter() - started) / count
    return {"seconds": seconds, "peak_mb": resident_mb("VmHWM") - before}


def explain_all(
    way: str, model: SiameseNetwork, image: Tensor, arguments: argparse.Namespace
) -> int:
    rule = LrpConfig(rule="epsilon")
    if way == "hemitwin":
        found = explain_embeddings(model, image, config=rule, memory_mb=arguments.memory_mb)
        return sum(1 for _ in found)
    lrp, gradient = Lrp(model.encoder, rule), InputXGradient(model.encoder)
    if way == "bare":
        image = image.clone().requires_grad_()
        output = model.encoder(image)
        for target in range(arguments.targets):
            torch.autograd.grad(output[0, target], image, retain_graph=True)
        return int(arguments.targets)
    for target in range(arguments.targets):
        if way == "single":
            lrp.attribute(image, target)
        else:
            gradient.attribute(image.clone().requires_grad_(), target)
    return int(arguments.targets)


def resident_mb(which: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(which))


def against_zennit(targets: int) -> Iterator[str]:
    stub_torchvision()
    from zennit.composites import LayerMapComposite  # noqa: PLC0415 - not a dependency
    from zennit.rules import Epsilon, Norm, Pass  # noqa: PLC0415
    from zennit.types import Activation, AvgPool, Linear  # noqa: PLC0415

    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 32), (32, 64), (64, 128)):
        layers += [nn.Conv3d(before, after, 3, stride=2, padding=1, bias=False), nn.ReLU()]
    chain = nn.Sequential(*layers, nn.AvgPool3d((3, 6, 5)), nn.Flatten(), nn.Linear(128, TARGETS))
    chain[-1].bias.data.zero_()
    chain.eval()
    image = torch.rand(1, 1, *SHAPE)
    started = time.perf_counter()
    ours = Lrp(chain, LrpConfig(rule="epsilon")).attribute_targets(image, range(TARGETS))
    per_target = (time.perf_counter() - started) / TARGETS
    yield f"{'hemitwin':21} {per_target:10.3f}"
    rules = [(Activation, Pass()), (AvgPool, Norm()), (Linear, Epsilon(epsilon=1e-6))]
    started, worst = time.perf_counter(), 0.0
    for target in range(targets):
        watched = image.clone().requires_grad_()
        with LayerMapComposite(rules).context(chain) as changed:
            output = changed(watched)
            seed = torch.zeros_like(output)
            seed[0, target] = output[0, target].detach()
            (theirs,) = torch.autograd.grad(output, watched, seed)
        apart = (theirs - ours[target].relevance[0]).abs().max()
        worst = max(worst, float(apart / theirs.abs().max()))
    seconds = (time.perf_counter() - started) / targets
    yield f"{'zennit':21} {seconds:10.3f} {seconds / per_target:8.2f} times ours"
    yield f"largest difference of the maps: {worst:.1e} of the largest relevance"


def stub_torchvision() -> None:
    for name in ("torchvision", "torchvision.models", "torchvision.models.resnet"):
        sys.modules.setdefault(name, types.ModuleType(name))
    resnet = sys.modules["torchvision.models.resnet"]
    for block in ("Bottleneck", "BasicBlock"):
        setattr(resnet, block, type(block, (nn.Module,), {}))


if __name__ == "__main__":
    main()
