"""What does an injection cost, beside one training step?

    OMP_NUM_THREADS=1 python benchmarks/injection.py --repeats 15 --steps 5

Lesions are drawn for and put into the bundled template on the 2 mm grid (88 x 104 x 80), on one
thread as in a loader's worker; volumes are those of examples/train.yaml, shapes half rough
ellipsoids, half random fields (`--masks FOLDER`: real ones; each is read once, before the clock
starts). A step is a batch of 8 subjects, each with both halves healthy and both lesioned, loss,
backward pass and AdamW, on two threads: of ResNet-18 as it is by default, and of the light network
of examples/train.yaml at 2 mm. A step needs 16 injections: `share` is 16 times sample and inject
over one step. `inject MB` is the peak of what numpy allocates during one injection.

Medians of wall time; the load average stands beside them, and on a busy machine they mean little.
`CPU share` is the same in CPU time, a step's halved for its two threads: what the wall would show
if nothing else ran. OMP_NUM_THREADS=1 keeps numpy's small products on one thread.
"""

import argparse
import os
import resource
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from hemitwin.atlases import load_template
from hemitwin.models import EncoderConfig, Items
from hemitwin.pipeline.cohort.config import DataConfig
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.sources.pairs import TrainingBatch
from hemitwin.pipeline.training.task import SiameseTask, resolve_precision
from hemitwin.transforms import (
    LesionConfig,
    LesionMaskLibrary,
    LesionSpec,
    inject_lesion,
    sample_lesion,
)
from hemitwin.transforms.lesions.spec import Pathology

NETWORKS = {
    "resnet18": EncoderConfig(),
    "light": EncoderConfig(width=32, blocks=(1, 1), stem_stride=4, pooling="max"),
}
SUBJECTS = 8
INJECTIONS = 2 * SUBJECTS
THREADS = 2


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall and CPU seconds."""
    started, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - used


def medians(times: list[tuple[float, float]]) -> tuple[float, float]:
    wall, cpu = zip(*times, strict=True)
    return statistics.median(wall), statistics.median(cpu)


def step_seconds(encoder: EncoderConfig, steps: int) -> tuple[float, float]:
    """Return the median wall and CPU time of a training step at 2 mm."""
    config = RunConfig(data=DataConfig(prepared=Path("none"), resolution_mm=2.0), encoder=encoder)
    task = SiameseTask(config, steps=100)
    task.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    optimizer = torch.optim.AdamW(task.parameters())
    images = torch.randn(4 * SUBJECTS, 1, 44, 104, 80, generator=torch.manual_seed(0))
    kinds = torch.arange(4).repeat(SUBJECTS)
    subjects = torch.arange(SUBJECTS).repeat_interleave(4)
    batch = TrainingBatch(images, Items(subjects, kinds % 2, subjects, kinds >= 2))
    bf16 = resolve_precision("auto", images.device) == "bf16-mixed"

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = task.training_step(batch, 0)["loss"]
        loss.backward()
        optimizer.step()

    step()
    return medians([timed(step) for _ in range(steps)])


def injection_row(
    pathology: Pathology, repeats: int, library: LesionMaskLibrary | None
) -> tuple[tuple[float, float], tuple[float, float], float]:
    """Return median wall and CPU seconds to draw and to inject, and the peak in MB."""
    template = load_template(2.0)
    brain = template.data > 0.1
    data = np.where(brain, template.data, 0).astype(np.float32)
    config = LesionConfig(
        pathologies={pathology: 1.0}, volume_mm3=(12000.0, 50000.0), contrast=(-0.6, -0.35),
        field_share=0.0 if library else 0.5, mask_share=1.0 if library else 0.0,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    specs: list[LesionSpec] = []

    def sample() -> None:
        specs.append(sample_lesion(rng, config, brain, template.affine, mask_library=library))

    def inject() -> None:
        inject_lesion(data, template.affine, specs[-1], brain, mask_library=library)

    for name in library.names if library else ():
        library.load(name)
    times = [(timed(sample), timed(inject)) for _ in range(repeats)]
    tracemalloc.start()
    for spec in specs[:5]:
        inject_lesion(data, template.affine, spec, brain, mask_library=library)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return medians([drawn for drawn, _ in times]), medians([put for _, put in times]), peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--masks", type=Path)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    torch.set_num_threads(THREADS)
    taken = {name: step_seconds(encoder, options.steps) for name, encoder in NETWORKS.items()}
    print(f"load average {load:.1f} before, {os.getloadavg()[0]:.1f} after the steps")
    for name, (wall, cpu) in taken.items():
        print(f"training step, {name}: {wall:.2f} s on {THREADS} threads, CPU {cpu:.2f} s")
    library = LesionMaskLibrary(options.masks) if options.masks else None
    heads = "".join(f"{f'share % of {name}':>20} {'CPU share %':>12}" for name in taken)
    print(f"pathology      sample ms  inject ms{heads}  inject MB")
    for pathology in get_args(Pathology):
        sample, inject, peak = injection_row(pathology, options.repeats, library)
        shares = ""
        for wall, cpu in taken.values():
            by_wall, by_cpu = (
                100 * INJECTIONS * (drawn + put) / step
                for drawn, put, step in zip(sample, inject, (wall, cpu / THREADS), strict=True)
            )
            shares += f"{by_wall:20.1f} {by_cpu:12.1f}"
        times = f"{pathology:14} {sample[0] * 1e3:9.1f} {inject[0] * 1e3:10.1f}"
        print(f"{times}{shares} {peak:10.1f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"load average {os.getloadavg()[0]:.1f} at the end; peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
