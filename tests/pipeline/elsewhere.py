"""Walk the stages of a run on the CPU and on a device that only says where tensors are.

    python elsewhere.py FOLDER [STAGE ...]

FOLDER holds run/, derivatives/ and, where brains are compared, twins.txt; all stages by default.

The device is torch's own place for a backend written in Python: its tensors hold their numbers on
the CPU, and every operation that is given tensors of both devices fails, as on a GPU. Registering
it lasts as long as the process, hence this script. Prints JSON: for each stage, by how much the
results of both devices differ (of the largest number), and how many convolutions ran where.
"""

import contextlib
import json
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

from hemitwin.interpret import AttributionConfig
from hemitwin.pipeline.cohort.brains import find_prepared
from hemitwin.pipeline.evaluation.brain_evaluation import evaluate_brains
from hemitwin.pipeline.evaluation.halves_evaluation import evaluate_halves
from hemitwin.pipeline.explanation import map_checks, pair_maps
from hemitwin.pipeline.explanation.embedding_maps import explain_embedding_of
from hemitwin.pipeline.explanation.explain import explain, explain_two
from hemitwin.pipeline.explanation.relate import relate, relate_two
from hemitwin.pipeline.explanation.request import MapRequest
from hemitwin.pipeline.preparation.native_space import NativeSpace
from hemitwin.pipeline.regions import hidden_lesions
from hemitwin.pipeline.regions.hidden_lesions import MaskSource, find_lesion
from hemitwin.pipeline.training.runs import load_run
from hemitwin.pipeline.training.setup import plan_training
from hemitwin.pipeline.training.step_probe import probe_step


class Backend(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self):
        return [torch.bfloat16]


backend_registration._setup_privateuseone_for_python_backend("elsewhere", backend_module=Backend())
ELSEWHERE = torch.device("elsewhere", 0)

FEW = 20  # regions

# These may be given numbers of the CPU: copies, and places to read or write.
ACROSS = {"_to_copy", "copy_", "index", "index_put", "index_put_", "_index_put_impl_"}
OWN_BACKEND = {
    "convolution_overrideable": torch.ops.aten.convolution.default,
    "convolution_backward_overrideable": lambda grad, x, weight, *rest: (
        torch.ops.aten.convolution_backward.default(grad, x, weight, [len(weight)], *rest)
    ),
}


class There(torch.Tensor):
    """A tensor elsewhere."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held, requires_grad=False):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=ELSEWHERE,
            requires_grad=requires_grad,
        )

    def __init__(self, held, requires_grad=False):
        del requires_grad
        self.held = held

    def data_ptr(self):
        return self.held.data_ptr()

    def untyped_storage(self):
        return self.held.untyped_storage()

    def __deepcopy__(self, memo):
        made = There(self.held.clone(), requires_grad=self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            made._is_param = True
        memo[id(self)] = made
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        del types
        name = func.overloadpacket.__name__
        leaves = _leaves((args, kwargs or {}))
        there = [one for one in leaves if isinstance(one, There)]
        here = [one for one in leaves if type(one) is torch.Tensor and one.dim() > 0]
        if there and here and name not in ACROSS:
            shapes = [[tuple(one.shape) for one in some] for some in (there, here)]
            msg = f"{name} must have its tensors on one device, got {shapes}"
            raise RuntimeError(msg)
        plain, named = _changed(_held, (args, kwargs or {}))
        result = OWN_BACKEND.get(name, func)(*plain, **named)
        if name == "copy_":
            return args[0]
        devices = [one for one in leaves if isinstance(one, torch.device)]
        if devices and devices[0].type != ELSEWHERE.type:
            return result
        known = {id(one.held): one for one in there}
        return _changed(
            lambda one: known.get(id(one), There(one)) if isinstance(one, torch.Tensor) else one,
            result,
        )


def _leaves(tree):
    """List what an operation is given; torch's own walk of its trees takes longer than most."""
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    if not isinstance(tree, list | tuple):
        return [tree]
    return [leaf for branch in tree for leaf in _leaves(branch)]


def _changed(change, tree):
    """Apply a function to every leaf."""
    if isinstance(tree, dict):
        return {name: _changed(change, branch) for name, branch in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)([_changed(change, branch) for branch in tree])
    return change(tree)


def _held(value):
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.held if isinstance(value, There) else value


def _make(func):
    def make(*args, device=None, pin_memory=None, **named):
        del device, pin_memory
        return There(func(*args, **named, device="cpu"))

    return make


LIBRARY = torch.library.Library("aten", "IMPL")
for factory in (torch.ops.aten.empty.memory_format, torch.ops.aten.empty_strided.default):
    LIBRARY.impl(factory, _make(factory), "PrivateUse1")


class Recorder(TorchDispatchMode):
    """Count convolutions by the device of what they are given."""

    def __init__(self):
        super().__init__()
        self.there = self.here = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        del types
        if func.overloadpacket.__name__.startswith("conv"):
            far = [isinstance(one, There) for one in _leaves(args) if torch.is_tensor(one)]
            self.there += all(far)
            self.here += not all(far)
        return func(*args, **(kwargs or {}))


def few_places():
    """Occlude by few windows, and name few regions: each is the same work on the same device."""
    pair_maps.AttributionConfig = partial(AttributionConfig, window_voxels=8, stride_voxels=7)
    whole = map_checks.atlas_on_grid

    def merged(run, brain, cache):
        atlas = whole(run, brain, cache)
        return replace(atlas, labels=np.minimum(atlas.labels, FEW))

    map_checks.atlas_on_grid = merged


def halves(run, derivatives, cache):
    """Give stages of a run on hemispheres, as functions that give numbers."""
    draws = run.config.head.name == "decoder"
    requests = (
        MapRequest(check=True),
        MapRequest(method="ablation"),
        MapRequest(method="occlusion"),
        MapRequest(method="integrated_gradients"),
        MapRequest(method="grad_cam", target="distance"),
        MapRequest(target="map" if draws else "embedding"),
    )
    own = {"labels": ("01",)}
    return {
        "evaluate": lambda: scores(evaluate_halves(run)),
        **({"anomaly": partial(anomaly, run, derivatives)} if draws else {}),
        **{
            f"explain {one.desc}": partial(
                maps, explain, run, derivatives, request=one, cache=cache, **own
            )
            for one in requests
        },
        "relate": lambda: matrix(relate(run, derivatives, cache=cache, directions=2, **own)),
        "dimensions": lambda: volumes(explain_embedding_of(run, derivatives, components=2, **own)),
        "training": partial(first_step, run),
    }


def brains(run, derivatives, cache, twins):
    """Give stages of a run on pairs of brains."""
    asked = {"request": MapRequest(), "cache": cache}
    return {
        "evaluate": lambda: scores(evaluate_brains(run)),
        "explain": partial(maps, explain_two, run, derivatives, twins, **asked),
        "relate": lambda: matrix(relate_two(run, derivatives, twins, cache=cache, directions=2)),
        "training": partial(first_step, run),
    }


def scores(evaluation):
    columns = evaluation.pairs.select_dtypes("number")
    return columns.to_numpy(float).ravel()


def maps(stage, *words, **named):
    outcome = stage(*words, **named)
    checks = [
        verdict["value"] for one in outcome.results for verdict in one.checks.get("Sanity", [])
    ]
    return np.concatenate([volumes(outcome), np.array(checks, dtype=float)])


def volumes(outcome):
    assert not outcome.failures, outcome.failures
    images = [nibabel.Nifti1Image.from_filename(one.relevance) for one in outcome.results]
    return np.concatenate([np.asarray(image.dataobj).ravel() for image in images])


def matrix(outcome):
    assert not outcome.failures, outcome.failures
    return outcome.results[0].table.set_index("region").to_numpy(float).ravel()


def anomaly(run, derivatives):
    hidden_lesions._drawing_run = lambda _: run
    (case,) = find_prepared(derivatives, labels=("01",))
    native = NativeSpace.of(case, "atlas")
    found = find_lesion(case, derivatives, native, MaskSource(run=run.folder))
    return np.zeros(1) if found is None else found.scan.data.ravel()


def first_step(run):
    """Take the reference, centre the network and run one step, as a training begins."""
    device = run.network.device
    setup = plan_training(run.config).set_up(device)
    batch = next(iter(setup.data.train_dataloader())).to(device)
    task = setup.task(4).to(device)
    task.centre(batch)
    assert probe_step(task, batch, precision="32-true").activation_bytes > 0
    with torch.no_grad():
        return task.network.embed(batch.images).cpu().numpy().ravel()


def walk(folder, device, wanted):
    """Run stages on one device; give their numbers and where convolutions ran."""
    own = folder / device.type
    for name in ("run", "derivatives"):
        shutil.copytree(folder / name, own / name)
    run = load_run(own / "run", device=device)
    assert run.network.device == device
    places, twins = (run, own / "derivatives", folder / "cache"), folder / "twins.txt"
    stages = brains(*places, twins.read_text().split()) if twins.is_file() else halves(*places)
    numbers, counts = {}, {}
    for name in wanted or stages:
        recorder = Recorder() if device == ELSEWHERE else None
        with recorder or contextlib.nullcontext():
            numbers[name] = stages[name]()
        if recorder:
            counts[name] = [recorder.there, recorder.here]
    return numbers, counts


def apart(near, far):
    """Give the largest difference, of the largest number."""
    largest = float(np.nanmax(np.abs(near)))
    return float(np.nanmax(np.abs(near - far))) / largest if largest else 0.0


def main():
    few_places()
    folder, wanted = Path(sys.argv[1]), sys.argv[2:]
    near, _ = walk(folder, torch.device("cpu"), wanted)
    far, counts = walk(folder, ELSEWHERE, wanted)
    differences = {name: apart(near[name], far[name]) for name in near}
    sys.stdout.write(json.dumps({"apart": differences, "convolutions": counts}) + "\n")


if __name__ == "__main__":
    main()
