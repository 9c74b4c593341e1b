"""What explain writes: every score, every method, two brains, directions, and the checks."""

import numpy as np
import pytest
import torch
from nibabel.nifti1 import Nifti1Image

from hemitwin.interpret import Ledger, PairExplanation
from hemitwin.pipeline.cli.main import main
from hemitwin.pipeline.explanation import explain as explaining
from hemitwin.pipeline.explanation.embedding_maps import explain_embedding_of
from hemitwin.pipeline.explanation.explain import explain, explain_two
from hemitwin.pipeline.explanation.request import MapRequest
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.pipeline.stage.settings import validated
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.train import train
from hemitwin.transforms import load_scan

pytestmark = pytest.mark.xdist_group("path")


@pytest.fixture(scope="module")
def decoder_run(prepared, tmp_path_factory):
    content = prepared.config.model_dump()
    content["loss"] = {"objective": "map"}
    content["head"] = {"name": "decoder", "decoder_width": 4}
    content["training"] |= {"epochs": 1}
    config = validated(RunConfig, content, "test")
    return train(config, tmp_path_factory.mktemp("runs") / "decoder")


@pytest.mark.parametrize("target", [None, "logit", "map", "distance", "embedding"])
def test_every_score_of_a_decoder_is_explained(decoder_run, prepared, target):
    request = MapRequest(target=target)
    outcome = explain(decoder_run, prepared.derivatives, labels=("p01",), request=request)
    assert not outcome.failures
    (one,) = outcome.results
    assert one.target == (target or "logit")
    sidecar = read_json(sidecar_of(one.relevance))
    assert sidecar["LedgerCloses"]
    assert sidecar["ExplainedScore"] == {"name": one.target, "value": one.score}
    assert f"desc-lrp{target or ''}_" in one.relevance.name


def test_a_score_that_the_head_does_not_give_is_refused(run, prepared):
    with pytest.raises(UserError, match="one that the head distance gives"):
        explain(run, prepared.derivatives, request=MapRequest(target="map"))


@pytest.mark.parametrize("method", ["input_x_gradient", "grad_cam", "ablation"])
def test_other_methods_book_what_they_leave(run, prepared, cache, method):
    request = MapRequest(method=method)
    outcome = explain(run, prepared.derivatives, labels=("p01",), request=request, cache=cache)
    assert not outcome.failures
    (one,) = outcome.results
    sidecar = read_json(sidecar_of(one.relevance))
    total = load_scan(one.relevance).data.sum(dtype=np.float64)
    left_over = sidecar["ExplainedScore"]["value"] - total
    assert sidecar["Ledger"]["constant"] == pytest.approx(left_over, rel=1e-3, abs=1e-4)
    assert "does not conserve" in sidecar["Description"]
    assert sidecar["Rule"] is None


@pytest.mark.slow
def test_checks_are_written_with_the_map(run, prepared, cache):
    request = MapRequest(check=True)
    (one,) = explain(
        run, prepared.derivatives, labels=("p01",), request=request, cache=cache
    ).results
    checks = read_json(sidecar_of(one.relevance))["Checks"]
    assert one.checks == checks
    found = {verdict["check"]: verdict for verdict in checks["Sanity"]}
    assert set(found) == {"swap", "input permutation", "parameter randomisation", "mirror"}
    # The sides share one encoder: these two hold whatever was learnt.
    assert found["swap"]["passed"]
    assert found["mirror"]["passed"]
    assert -1 <= checks["Faithfulness"]["rank_agreement"] <= 1
    again = explain(run, prepared.derivatives, labels=("p01",), request=request, cache=cache)
    assert again.results == (one,)


def test_checks_need_a_place_for_the_atlas(run, prepared):
    with pytest.raises(UserError, match="where to keep the atlas"):
        explain(run, prepared.derivatives, request=MapRequest(check=True))


def _leaking(*_, **__):
    empty = torch.zeros(1, 1, 11, 26, 20)
    return PairExplanation(empty, empty, 1.0, Ledger(0.5, 0.0, 0.0, 0.0, 1.0))


def test_an_open_ledger_is_written_only_when_asked_for_by_name(run, prepared, monkeypatch):
    derivatives, request = prepared.derivatives, MapRequest(target="embedding", open_ledger=True)
    monkeypatch.setattr(explaining, "compute_map", _leaking)
    closed = explain(run, derivatives, labels=("01",), request=MapRequest(target="embedding"))
    assert "ledger must close to 1e-4, got a ratio of 0.5" in closed.failures[0].reason
    with pytest.raises(UserError, match="asked for by name"):
        explain(run, derivatives, request=request)


@pytest.mark.slow
def test_directions_of_the_embedding_are_volumes_of_one_file(run, prepared):
    outcome = explain_embedding_of(run, prepared.derivatives, labels=("01",), components=3)
    (one,) = outcome.results
    image = Nifti1Image.from_filename(one.relevance)
    assert image.shape[3] == one.directions == 3
    ledgers = read_json(sidecar_of(one.relevance))["Ledgers"]
    assert [len(row) for row in ledgers] == [2, 2, 2]  # two hemispheres
    total = sum(ledger["input"] for ledger in ledgers[0])
    volume = image.get_fdata()[..., 0].sum()
    assert volume == pytest.approx(total, rel=1e-3, abs=1e-6)
    assert explain_embedding_of(
        run, prepared.derivatives, labels=("01",), components=3
    ).results == (one,)
    every = explain_embedding_of(run, prepared.derivatives, labels=("01",)).results[0]
    assert every.directions == run.config.encoder.embedding_dim


def test_more_directions_than_dimensions_are_refused(run, prepared):
    with pytest.raises(UserError, match="directions must be from 1 to the embedding's 128"):
        explain_embedding_of(run, prepared.derivatives, components=129)


def test_halves_are_no_pair_of_brains(run, prepared):
    with pytest.raises(UserError, match="compares halves"):
        explain_two(run, prepared.derivatives, ("sub-01", "sub-02"))


def _run(*words):
    with pytest.raises(SystemExit) as ended:
        main([*words])
    assert ended.value.code == 0


@pytest.mark.slow
def test_the_command_prints_score_ledger_and_checks(
    decoder_run, prepared, cache, monkeypatch, capsys
):
    monkeypatch.setenv("HEMITWIN_CACHE", str(cache))
    words = ["explain", str(decoder_run.folder), str(prepared.derivatives)]
    _run(*words, "--participant-label", "p01", "--target", "map", "--check")
    told = capsys.readouterr().out
    assert "parameter randomisation" in told
    assert "agreement with ablation" in told
    _run(*words, "--participant-label", "p01", "--components", "2")
    assert "directions" in capsys.readouterr().out
