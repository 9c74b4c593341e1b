"""One device for a run: what the network sees goes there, results come back to the CPU."""

import shutil

import numpy as np
import pytest
import torch

from hemitwin.pipeline.evaluation.halves_evaluation import evaluate_halves
from hemitwin.pipeline.explanation.explain import explain
from hemitwin.pipeline.explanation.relate import relate
from hemitwin.pipeline.explanation.request import MapRequest
from hemitwin.pipeline.stage.settings import validated
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.device import chosen_device
from hemitwin.pipeline.training.runs import load_run
from hemitwin.pipeline.training.task import resolve_precision
from hemitwin.pipeline.training.train import train
from hemitwin.transforms import load_scan

pytestmark = pytest.mark.xdist_group("path")


@pytest.mark.parametrize(("there", "kind"), [(True, "cuda"), (False, "cpu")])
def test_it_is_cuda_where_there_is_one_and_computes_in_float32(monkeypatch, there, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert chosen_device().type == kind
    assert torch.backends.cudnn.allow_tf32 is not there
    assert chosen_device(torch.device("cpu")).type == "cpu"


def test_precision_is_what_the_chosen_device_has_units_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert resolve_precision("auto") == "bf16-mixed"
    assert resolve_precision("auto", torch.device("cpu")) == "32-true"


def is_walked_elsewhere(found):
    """Each convolution ran on the network's device, with the CPU's results."""
    for name, (there, here) in found["convolutions"].items():
        assert there > 0, name
        assert here == 0, name
        assert found["apart"][name] < 1e-4, name


@pytest.mark.slow  # a process of its own, that imports everything
def test_every_convolution_runs_on_the_networks_device(run, prepared, elsewhere):
    stages = ("evaluate", "explain lrp", "training")
    found = elsewhere(run, prepared.derivatives, *stages)
    assert tuple(found["convolutions"]) == stages
    is_walked_elsewhere(found)


@pytest.mark.slow
def test_so_it_does_in_every_stage(prepared, elsewhere, tmp_path):
    content = prepared.config.model_dump() | {"loss": {"objective": "map"}}
    content["head"] = {"decoder_width": 4}
    made = train(validated(RunConfig, content, "test"), tmp_path / "run")
    found = elsewhere(made, prepared.derivatives)
    assert {"relate", "dimensions", "explain occlusion"} <= set(found["convolutions"])
    assert "anomaly" in found["convolutions"]
    is_walked_elsewhere(found)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
def test_a_gpu_gives_what_the_cpu_gives(prepared, cache, tmp_path):
    content = prepared.config.model_dump()
    content["training"] |= {"precision": "32-true", "checkpoint_steps": 1}
    made = train(validated(RunConfig, content, "test"), tmp_path / "run")
    assert made.network.device.type == "cuda"
    labels, results = ("01",), {}
    for kind in ("cuda", "cpu"):
        run = load_run(made.folder, device=torch.device(kind))
        derivatives = tmp_path / kind
        shutil.copytree(prepared.derivatives, derivatives)
        distances = evaluate_halves(run).pairs["distance"].to_numpy()
        maps = []
        for request in (MapRequest(check=True), MapRequest(method="integrated_gradients")):
            outcome = explain(run, derivatives, labels=labels, request=request, cache=cache)
            assert not outcome.failures
            maps.append(load_scan(outcome.results[0].relevance).data.ravel())
        (matrix,) = relate(run, derivatives, labels=labels, cache=cache, directions=4).results
        table = matrix.table.set_index("region").to_numpy(float)
        results[kind] = (distances, *maps, table.ravel())
    for there, here in zip(results["cuda"], results["cpu"], strict=True):
        np.testing.assert_allclose(there, here, rtol=0, atol=1e-3 * np.abs(here).max())
