import json
import logging
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest

from hemitwin.atlases import save_volume
from hemitwin.models import HeadConfig
from hemitwin.pipeline.cohort.brains import find_prepared
from hemitwin.pipeline.explanation.explain import explain
from hemitwin.pipeline.exports.export import export
from hemitwin.pipeline.group.rank import RankConfig, rank
from hemitwin.pipeline.preparation.prepare import PrepareConfig, prepare
from hemitwin.pipeline.regions import hidden_lesions
from hemitwin.pipeline.regions.parcellate import parcellate
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import digest_file, read_json, write_json
from hemitwin.pipeline.training.runs import write_config
from hemitwin.pipeline.training.train import train
from hemitwin.transforms import load_scan

pytestmark = pytest.mark.xdist_group("path")

CONFIG = PrepareConfig(resolution_mm=4.0)


@pytest.fixture
def folder(prepared, tmp_path):
    """One person's scan and derivatives, to be written to."""
    for name in (prepared.bids, prepared.derivatives):
        shutil.copytree(name / "sub-01", tmp_path / name.name / "sub-01")
    return tmp_path


def _again(folder):
    (one,) = prepare(folder / "bids", folder / "derivatives", config=CONFIG).results
    return one


def _times(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*.*"))}


def test_leftovers_of_a_killed_stage_stop_no_other_and_are_swept(folder):
    volume = _again(folder).volume
    left = volume.with_name(f".partial-x8_1k2z9-{volume.name}")
    left.write_bytes(volume.read_bytes()[:100])
    (case,) = find_prepared(folder / "derivatives")
    assert case.problem is None
    assert _again(folder).skipped
    assert not left.exists()


@pytest.mark.slow
def test_a_prepare_that_is_killed_while_it_writes_is_done_by_the_next(folder):
    before = digest_file(_again(folder).volume)
    sidecar_of(_again(folder).volume).unlink()
    script = f"""
        import time
        from pathlib import Path
        from hemitwin.atlases.formats import nifti
        from hemitwin.pipeline.preparation.prepare import PrepareConfig, prepare

        def save(image, path):
            Path(path).write_bytes(b"half")
            print("writing", flush=True)
            time.sleep(60)

        nifti.nib.save = save
        folder = Path({str(folder)!r})
        prepare(folder / "bids", folder / "derivatives", config=PrepareConfig(resolution_mm=4.0))
    """
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "writing"
        process.send_signal(signal.SIGKILL)
    anat = folder / "derivatives" / "sub-01" / "anat"
    assert list(anat.glob(".partial-*"))
    assert not _again(folder).skipped
    assert not list(anat.glob(".partial-*"))
    assert digest_file(_again(folder).volume) == before


def test_what_macos_keeps_beside_a_scan_is_no_scan(folder):
    anat = folder / "bids" / "sub-01" / "anat"
    (anat / "._sub-01_T1w.nii.gz").write_bytes(b"\0\5\x16\7")
    assert _again(folder).skipped


def test_a_scan_that_changed_is_prepared_anew_and_the_log_says_why(folder, caplog):
    path = folder / "bids" / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    scan = load_scan(path)
    save_volume(path, scan.data * 2, scan.affine)
    with caplog.at_level(logging.INFO, logger="hemitwin"):
        assert not _again(folder).skipped
    assert "made again: made from another scan" in caplog.text
    assert _again(folder).skipped


@pytest.mark.parametrize("file", ["*_xfm.txt", "*_T1w.png", "*_T1w.nii.gz"])
def test_a_product_that_lacks_a_file_is_made_again(folder, file):
    (path,) = (folder / "derivatives" / "sub-01" / "anat").glob(file)
    path.unlink()
    assert not _again(folder).skipped
    assert path.is_file()


def test_derivatives_of_version_0_1_0_are_made_again_or_taken(folder, caplog):
    one = _again(folder)
    sidecar = sidecar_of(one.volume)
    content = read_json(sidecar)
    del content["MadeFrom"]
    write_json(sidecar, {**content, "Key": "0", "Digest": digest_file(one.volume)})
    (case,) = find_prepared(folder / "derivatives")
    assert case.scan == one.volume
    with caplog.at_level(logging.INFO, logger="hemitwin"):
        assert not _again(folder).skipped
    lines = [record.message for record in caplog.records if "made again" in record.message]
    assert len(lines) == 1
    assert "an earlier version" in lines[0]
    assert (
        digest_file(one.volume)
        == read_json(sidecar)["MadeFrom"]["files"][one.volume.name]["sha256"]
    )


@pytest.fixture
def walked(folder, run, cache):
    """The person, explained, parcellated and exported."""
    derivatives = folder / "derivatives"
    assert explain(run, derivatives).results
    assert parcellate(derivatives, cache=cache).results
    assert export(derivatives, cache=cache).results
    return derivatives


def test_stages_with_nothing_to_do_write_nothing(walked, run, cache):
    before = _times(walked)
    explain(run, walked)
    parcellate(walked, cache=cache)
    export(walked, cache=cache)
    assert _times(walked) == before


def test_a_new_map_reaches_every_later_stage(walked, run, cache):
    (map_,) = walked.glob("sub-01/anat/*Sym_desc-lrp_relevance.nii.gz")
    scan = load_scan(map_)
    save_volume(map_, scan.data[::-1] * 2, scan.affine)
    content = read_json(sidecar_of(map_))
    del content["MadeFrom"]  # as another run of another version would leave it
    write_json(sidecar_of(map_), {**content, "Digest": digest_file(map_)})
    config = RankConfig(draws=100, null_draws=0)
    with pytest.raises(UserError, match="of another map than is there now"):
        rank(walked, config=config)
    parcellate(walked, cache=cache)
    rank(walked, config=config)
    before = _times(walked / "workbench")
    export(walked, cache=cache)
    assert _times(walked / "workbench") != before
    changed = digest_file(map_)
    explain(run, walked)
    assert digest_file(map_) != changed
    with pytest.raises(UserError, match="of another map than is there now"):
        rank(walked, config=config)


def test_group_surfaces_that_are_not_what_was_written_are_written_again(walked, cache):
    (surface,) = (walked / "atlas").glob("*hemi-L*_inflated.surf.gii")
    before = digest_file(surface)
    surface.write_text("another")
    export(walked, cache=cache)
    assert digest_file(surface) == before


def test_a_description_by_another_program_is_kept_and_ours_is_renewed(folder):
    path = folder / "derivatives" / "dataset_description.json"
    other = {"Name": "fMRIPrep", "GeneratedBy": [{"Name": "fMRIPrep"}]}
    write_json(path, other)
    _again(folder)
    assert read_json(path) == other
    write_json(path, {"Name": "old", "GeneratedBy": [{"Name": "HemiTwin", "Version": "0.0.1"}]})
    (folder / "derivatives" / "descriptions.tsv").write_text("desc_id\tdescription\n")
    _again(folder)
    assert json.loads(path.read_text())["Name"].startswith("HemiTwin")
    assert "prepared" in (folder / "derivatives" / "descriptions.tsv").read_text()


def test_a_network_that_was_trained_again_draws_its_masks_anew(run, tmp_path, monkeypatch):
    config = run.config.model_copy(update={"head": HeadConfig(name="decoder")})
    drawing, loaded = replace(run, config=config), []
    monkeypatch.setattr(hidden_lesions, "load_run", lambda one: loaded.append(one) or drawing)
    for weights in ("one", "one", "two"):
        (tmp_path / "model.safetensors").write_text(weights)
        hidden_lesions.MaskSource(run=tmp_path).check()
    assert len(loaded) == 2


@pytest.mark.parametrize("change", ["volume", "one more", "one less"])
def test_a_run_does_not_stand_for_other_volumes(run, prepared, tmp_path, change):
    derivatives = shutil.copytree(prepared.derivatives, tmp_path / "derivatives")
    folder = shutil.copytree(run.folder, tmp_path / "run")
    data = run.config.data.model_copy(update={"prepared": derivatives})
    config = run.config.model_copy(update={"data": data})
    write_config(folder, config)
    assert train(config, folder).weights_digest == run.weights_digest
    if change == "one more":
        (source, target) = (derivatives / name for name in ("sub-01", "sub-99"))
        shutil.copytree(source, target)
        for path in target.rglob("sub-01*"):
            path.rename(path.with_name(path.name.replace("sub-01", "sub-99")))
    elif change == "one less":
        shutil.rmtree(derivatives / "sub-01")
    else:
        (path,) = (derivatives / "sub-01").glob("anat/*_T1w.nii.gz")
        scan = load_scan(path)
        save_volume(path, scan.data * 2, scan.affine, space="MNI152NLin2009aSym")
    with pytest.raises(UserError, match="on these data, but it was begun with others"):
        train(config, folder)
