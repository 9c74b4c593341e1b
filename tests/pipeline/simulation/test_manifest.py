"""A set belongs to one configuration, and its manifest names everybody in it."""

import logging
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from hemitwin.atlases import TEMPLATE_SPACE, save_volume, template_grid
from hemitwin.pipeline.cli.main import main
from hemitwin.pipeline.simulation.lesion_set import EvaluationSetConfig, simulate_lesions
from hemitwin.pipeline.simulation.manifest import MANIFEST
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import digest_file, read_json, write_json
from hemitwin.transforms import LesionConfig, LesionMaskLibrary

PEOPLE = ("01", "02", "03")
RANGES = LesionConfig(volume_mm3=(20000.0, 30000.0), pathologies={"tumour": 1.0}, field_share=0)
CONFIG = EvaluationSetConfig(lesions_per_subject=2, lesions=RANGES)
ITEMS = 1 + 2 + 1 + 1


def prepare(derivatives: Path, label: str, seed: int = 0) -> Path:
    """Write what stands for a prepared brain: an ellipsoid of its own noise at 8 mm."""
    shape, affine = template_grid(8.0)
    points = np.indices(shape).reshape(3, -1)
    x, y, z = (affine[:3, :3] @ points + affine[:3, 3:]).reshape(3, *shape)
    inside = (x / 65) ** 2 + ((y + 20) / 80) ** 2 + ((z - 8) / 60) ** 2 <= 1
    noise = np.random.default_rng([seed, *label.encode()]).uniform(0.5, 1, shape)
    name = f"sub-{label}_space-{TEMPLATE_SPACE}_desc-prepared_T1w.nii.gz"
    path = derivatives / f"sub-{label}" / "anat" / name
    save_volume(path, np.where(inside, noise, 0).astype(np.float32), affine, space=TEMPLATE_SPACE)
    write_json(sidecar_of(path), {"Quality": {"native_from_template_determinant": 0.8}})
    return path


def save_mask(path: Path, radius: int) -> None:
    path.parent.mkdir(exist_ok=True)
    x, y, z = np.indices((30, 30, 30)) - 15
    ball = x**2 + (1.2 * y) ** 2 + z**2 < radius**2
    nib.save(nib.Nifti1Image(ball.astype(np.uint8), np.diag([2.0, 2.0, 2.0, 1.0])), path)


@pytest.fixture
def derivatives(tmp_path) -> Path:
    for label in PEOPLE:
        prepare(tmp_path / "derivatives", label)
    return tmp_path / "derivatives"


@pytest.fixture
def masked(tmp_path) -> EvaluationSetConfig:
    """Lesions that have the shapes of real masks."""
    for number, radius in enumerate((9, 11)):
        save_mask(tmp_path / "masks" / f"mask{number}.nii.gz", radius)
    lesions = RANGES.model_copy(update={"mask_share": 1.0})
    return EvaluationSetConfig(
        lesions_per_subject=1, lesions=lesions, lesion_masks=tmp_path / "masks"
    )


def manifest_of(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / MANIFEST, sep="\t")


def people_of(out: Path) -> list[str]:
    return list(dict.fromkeys(manifest_of(out)["participant_id"]))


def holds(out: Path) -> bool:
    """Tell whether every row of the manifest is the volume that it names."""
    table = manifest_of(out)
    return [digest_file(out / file) for file in table["file"]] == list(table["sha256"])


def test_calls_one_after_another_give_the_bytes_of_one_call(derivatives, tmp_path):
    simulate_lesions(derivatives, tmp_path / "whole", config=CONFIG)
    for labels in (("03",), ("02", "01")):
        simulate_lesions(derivatives, tmp_path / "parts", config=CONFIG, labels=labels)
    for name in (MANIFEST, "simulation.json"):
        whole, parts = ((tmp_path / one / name).read_bytes() for one in ("whole", "parts"))
        assert whole == parts
    assert len(manifest_of(tmp_path / "parts")) == len(PEOPLE) * ITEMS
    assert holds(tmp_path / "parts")


def test_asking_for_one_keeps_everybody(derivatives, tmp_path):
    out = tmp_path / "set"
    simulate_lesions(derivatives, out, config=CONFIG)
    before = (out / MANIFEST).read_bytes()
    outcome = simulate_lesions(derivatives, out, config=CONFIG, labels=("03",))
    assert [set(rows["participant_id"]) for rows in outcome.results] == [{"sub-03"}]
    assert (out / MANIFEST).read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"lesions_per_subject": 3},
        {"lesions": RANGES.model_copy(update={"edge_mm": (2.0, 2.0)})},
    ],
)
def test_a_set_takes_no_other_configuration(derivatives, tmp_path, change):
    out = tmp_path / "set"
    simulate_lesions(derivatives, out, config=CONFIG, labels=("01",))
    before = {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
    other = CONFIG.model_copy(update=change)
    with pytest.raises(UserError, match=rf"another {next(iter(change))} than.*another folder"):
        simulate_lesions(derivatives, out, config=other, labels=("02",))
    assert {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()} == before


def test_a_configuration_that_nobody_passed_binds_nothing(derivatives, tmp_path):
    ranges = RANGES.model_copy(update={"volume_mm3": (6e5, 6e5)})
    failed = simulate_lesions(
        derivatives, tmp_path / "set", config=CONFIG.model_copy(update={"lesions": ranges})
    )
    assert len(failed.failures) == len(PEOPLE)
    assert not simulate_lesions(derivatives, tmp_path / "set", config=CONFIG).failures


def test_who_was_prepared_anew_is_left_out_and_told_until_simulated_again(
    derivatives, tmp_path, caplog
):
    out = tmp_path / "set"
    simulate_lesions(derivatives, out, config=CONFIG)
    prepare(derivatives, "02", seed=1)
    with caplog.at_level(logging.WARNING):
        simulate_lesions(derivatives, out, config=CONFIG, labels=("03",))
    assert "sub-02 left out of manifest.tsv" in caplog.text
    assert people_of(out) == ["sub-01", "sub-03"]
    caplog.clear()
    simulate_lesions(derivatives, out, config=CONFIG, labels=("02",))
    assert "left out" not in caplog.text
    assert people_of(out) == ["sub-01", "sub-02", "sub-03"]
    assert holds(out)


def test_who_lacks_a_volume_is_left_out_and_told(derivatives, tmp_path, caplog):
    out = tmp_path / "set"
    simulate_lesions(derivatives, out, config=CONFIG)
    next(out.rglob("sub-01*desc-sham01_T1w.nii.gz")).unlink()
    with caplog.at_level(logging.WARNING):
        simulate_lesions(derivatives, out, config=CONFIG, labels=("03",))
    assert "sub-01 left out of manifest.tsv" in caplog.text
    assert people_of(out) == ["sub-02", "sub-03"]


def test_whose_prepared_volume_is_gone_stays(derivatives, tmp_path, caplog):
    out = tmp_path / "set"
    simulate_lesions(derivatives, out, config=CONFIG)
    shutil.rmtree(derivatives / "sub-01")
    with caplog.at_level(logging.WARNING):
        simulate_lesions(derivatives, out, config=CONFIG, labels=("03",))
    assert people_of(out) == ["sub-01", "sub-02", "sub-03"]
    assert not caplog.text


def test_killed_and_run_again_gives_the_bytes_of_one_call(derivatives, tmp_path, monkeypatch):
    simulate_lesions(derivatives, tmp_path / "whole", config=CONFIG)
    whole = (tmp_path / "whole" / MANIFEST).read_bytes()
    rename, left = Path.replace, 0

    def dying(path: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", dying)
    for allowed in (0, 5, 30):
        out, left = tmp_path / str(allowed), allowed
        with pytest.raises(KeyboardInterrupt):
            simulate_lesions(derivatives, out, config=CONFIG)
        left = 1000
        assert not (out / MANIFEST).exists()
        simulate_lesions(derivatives, out, config=CONFIG, labels=("03",))
        assert holds(out)
        simulate_lesions(derivatives, out, config=CONFIG)
        assert (out / MANIFEST).read_bytes() == whole


def test_a_mask_that_was_replaced_makes_the_set_again(derivatives, tmp_path, masked, caplog):
    out = tmp_path / "set"
    simulate_lesions(derivatives, out, config=masked)
    before = manifest_of(out).set_index(["participant_id", "item"])["sha256"]
    for number in range(2):
        save_mask(tmp_path / "masks" / f"mask{number}.nii.gz", 7 + number)
    with caplog.at_level(logging.WARNING):
        simulate_lesions(derivatives, out, config=masked, labels=("03",))
    assert "sub-01, sub-02 left out of manifest.tsv" in caplog.text
    assert people_of(out) == ["sub-03"]
    simulate_lesions(derivatives, out, config=masked)
    after = manifest_of(out).set_index(["participant_id", "item"])["sha256"]
    assert holds(out)
    same = (before == after).groupby("item").all()
    assert same["healthy"]
    assert not same["lesion01"]
    digest = LesionMaskLibrary(tmp_path / "masks").digest
    assert read_json(out / "simulation.json")["lesion_masks_sha256"] == digest
    sidecar = next(out.rglob("sub-01*desc-lesion01_T1w.json"))
    assert read_json(sidecar)["LesionMasksSHA256"] == digest


def test_an_added_mask_makes_the_set_again(derivatives, tmp_path, masked):
    out = tmp_path / "set"
    simulate_lesions(derivatives, out, config=masked)
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*lesion01_T1w.nii.gz")}
    simulate_lesions(derivatives, out, config=masked)
    assert files == {path: path.stat().st_mtime_ns for path in files}
    save_mask(tmp_path / "masks" / "mask2.nii.gz", 8)
    simulate_lesions(derivatives, out, config=masked)
    assert all(path.stat().st_mtime_ns > time for path, time in files.items())


def test_masks_are_told_by_content_wherever_they_lie(derivatives, tmp_path, masked):
    out = tmp_path / "set"
    simulate_lesions(derivatives, out, config=masked, labels=("01",))
    moved = tmp_path / "moved"
    shutil.move(tmp_path / "masks", moved)
    simulate_lesions(
        derivatives, out, config=masked.model_copy(update={"lesion_masks": moved}), labels=("02",)
    )
    assert people_of(out) == ["sub-01", "sub-02"]
    save_mask(tmp_path / "others" / "mask0.nii.gz", 6)
    other = masked.model_copy(update={"lesion_masks": tmp_path / "others"})
    with pytest.raises(UserError, match="another lesion_masks than"):
        simulate_lesions(derivatives, out, config=other, labels=("02",))


def test_a_set_of_the_first_version_is_taken_and_who_is_asked_for_is_made_again(
    derivatives, tmp_path
):
    out = tmp_path / "set"
    simulate_lesions(derivatives, out, config=CONFIG)
    before = (out / MANIFEST).read_bytes()
    settings = read_json(out / "simulation.json")
    del settings["lesion_masks_sha256"]
    write_json(out / "simulation.json", settings)
    for path in out.rglob("*_T1w.json"):
        content = read_json(path)
        content.pop("LesionMasksSHA256", None)
        write_json(path, content)
    for path in out.rglob("*_simulation.json"):
        path.unlink()
    others = [path for path in out.rglob("*.nii.gz") if "sub-03" not in path.name]
    times = {path: path.stat().st_mtime_ns for path in others}
    simulate_lesions(derivatives, out, config=CONFIG, labels=("03",))
    assert (out / MANIFEST).read_bytes() == before
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_the_command_line_refuses_another_configuration_in_one_line(derivatives, tmp_path, capsys):
    words = ["simulate", "lesions", str(derivatives), str(tmp_path / "set")]
    few = ["--set", "lesions_per_subject=1", "--set", "lesions.volume_mm3=[20000, 30000]"]
    with pytest.raises(SystemExit, match="0"):
        main([*words, *few, "--participant-label", "01"])
    with pytest.raises(SystemExit, match="2"):
        main([*words, *few, "--set", "seed=3", "--participant-label", "02"])
    said = " ".join(capsys.readouterr().err.split())
    assert "has another seed than is asked for; choose another folder" in said
