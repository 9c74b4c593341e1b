"""Bad scans are flagged with figure and limit, and stay where they are."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from hemitwin.atlases import load_template
from hemitwin.pipeline.preparation.prepare import prepare
from hemitwin.pipeline.preparation.quality import (
    GATES,
    QUALITY_TABLE,
    flagged_cases,
    flags_of,
    quality_figures,
    quality_table,
    write_quality_table,
)
from hemitwin.pipeline.stage.json_files import read_json, write_json
from hemitwin.transforms import Scan, load_scan, robust_scale


def crop(scan: Scan) -> Scan:
    """Cut the field of view through the upper third of the brain."""
    z = np.flatnonzero((scan.data > 0).any(axis=(0, 1)))
    return replace(scan, data=scan.data[:, :, : int(z[0] + 0.65 * (z[-1] - z[0]))])


def add_blob(scan: Scan) -> Scan:
    """Leave tissue as bright as brain beside the left hemisphere: an eye, a neck, a cushion."""
    return replace(
        scan, data=np.where(_ball(scan, 45.0, (-65, 20, -45)), _median(scan), scan.data)
    )


def erase_half(scan: Scan) -> Scan:
    x = np.indices(scan.data.shape)[0]
    return replace(scan, data=np.where(x > np.argwhere(scan.data > 0)[:, 0].mean(), 0, scan.data))


def add_metal(scan: Scan) -> Scan:
    """Put in a ball of 12 mm radius, ten times as bright as the brain."""
    ball = _ball(scan, 12.0, (20, 30, 0))
    return replace(scan, data=np.where(ball, 10 * _median(scan), scan.data))


def keep_scalp(scan: Scan) -> Scan:
    """Leave a dark skull of 8 mm and a scalp of 4 mm around the brain, as bright as it."""
    away = ndimage.distance_transform_edt(scan.data == 0, np.diag(scan.affine)[:3])
    skull = np.where(away <= 8, 0.05 * _median(scan), np.where(away <= 12, _median(scan), 0))
    return replace(scan, data=np.where(scan.data > 0, scan.data, skull).astype(np.float32))


def make_cylinder(scan: Scan) -> Scan:
    """Give the brain's volume the shape of a neck."""
    x, y, _ = np.indices(scan.data.shape)
    centre = np.argwhere(scan.data > 0).mean(axis=0)
    inside = np.hypot(x - centre[0], y - centre[1]) < 11
    return replace(scan, data=np.where(inside, _median(scan) * (1 + x / 100), 0))


def turn(scan: Scan) -> Scan:
    """Let the header claim a scan lying on its side: 90 degrees about the long axis."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    return replace(scan, affine=motion @ scan.affine)


def _ball(scan: Scan, radius_mm: float, from_centre_mm: tuple[float, ...]) -> np.ndarray:
    index = np.indices(scan.data.shape).reshape(3, -1)
    world = scan.affine[:3, :3] @ index + scan.affine[:3, 3:]
    centre = world[:, scan.data.ravel() > 0].mean(axis=1) + from_centre_mm
    distance = np.linalg.norm(world - centre[:, None], axis=0)
    return (distance < radius_mm).reshape(scan.data.shape)


def _median(scan: Scan) -> np.float32:
    return np.float32(np.median(scan.data[scan.data > 0]))


def pad_to(scan: Scan, shape: tuple[int, ...]) -> np.ndarray:
    return np.pad(scan.data, [(0, n - m) for n, m in zip(shape, scan.data.shape, strict=True)])


def figures_in_place(scan: Scan, template) -> dict[str, float]:
    """Measure a phantom that lies on the template's grid, as aligned as it can be."""
    data = pad_to(scan, template.data.shape).astype(np.float32)
    mask = data > 0
    native_mm3 = float((scan.data > 0).sum() * 64)
    whole = Scan(data, template.affine)
    return quality_figures(whole, robust_scale(data, mask), mask, np.eye(4), template, native_mm3)


@pytest.fixture(scope="module")
def phantom():
    """The template with an asymmetric shade, as a scan of arbitrary unit, and the template."""
    template = load_template(4.0)
    x = np.linspace(0.95, 1.05, template.data.shape[0])[:, None, None]
    return Scan((700 * x * template.data).astype(np.float32), template.affine), template


def test_a_good_scan_passes_every_gate(phantom):
    scan, template = phantom
    figures = figures_in_place(scan, template)
    assert set(GATES) <= set(figures)
    assert flags_of(figures) == []
    assert figures["brain_coverage"] == pytest.approx(1)
    assert figures["template_similarity"] > 0.95


@pytest.mark.parametrize(
    ("damage", "figure"),
    [
        (crop, "template_coverage"),
        (add_blob, "outline_similarity"),
        (erase_half, "mirror_similarity"),
        (add_metal, "intensity_outlier_share"),
        (keep_scalp, "dark_layer"),
        (make_cylinder, "template_overlap"),
        (make_cylinder, "beyond_template"),
    ],
)
def test_a_damaged_phantom_is_flagged_by_the_gate_meant_for_it(phantom, damage, figure):
    scan, template = phantom
    flags = flags_of(figures_in_place(damage(scan), template))
    assert any(flag.startswith(figure) for flag in flags), flags


@pytest.mark.parametrize("damage", [keep_scalp, make_cylinder])
def test_what_has_not_a_brains_shape_is_flagged_in_any_contrast(phantom, damage):
    scan, template = phantom
    inverted = replace(scan, data=np.where(scan.data > 0, 1.3 * scan.data.max() - scan.data, 0))
    assert flags_of(figures_in_place(inverted, template), modality="T2w") == []
    assert flags_of(figures_in_place(damage(inverted), template), modality="T2w")


def test_a_brain_of_two_and_a_half_litres_is_flagged():
    assert flags_of({"native_brain_ml": 1850.0}, modality="FLAIR") == []
    (flag,) = flags_of({"native_brain_ml": 2400.0}, modality="FLAIR")
    assert flag == "native_brain_ml 2400 is above 2300"


def test_a_phantom_on_its_side_does_not_look_like_the_template(phantom):
    scan, template = phantom
    side = np.zeros_like(scan.data)
    turned = np.rot90(scan.data, axes=(1, 2))
    n = min(side.shape[1], turned.shape[1]), min(side.shape[2], turned.shape[2])
    side[:, : n[0], : n[1]] = turned[:, : n[0], : n[1]]
    flags = flags_of(figures_in_place(replace(scan, data=side), template))
    assert any(flag.startswith("template_similarity") for flag in flags), flags


def _write_cohort(folder: Path, coverages: list[float]) -> None:
    for number, coverage in enumerate(coverages):
        name = f"sub-{number:02d}_space-MNI152NLin2009aSym_desc-prepared_T1w.json"
        figures = {"brain_coverage": coverage, "mirror_similarity": 0.8}
        write_json(folder / f"sub-{number:02d}" / "anat" / name, {"Quality": figures})


def test_the_table_holds_every_scan_and_names_what_stands_apart(tmp_path, caplog):
    coverages = [*np.linspace(0.995, 1.0, 9).tolist(), 0.5, 0.982]
    _write_cohort(tmp_path, coverages)
    with caplog.at_level("INFO"):
        path = write_quality_table(tmp_path)
    assert path is not None
    assert path == tmp_path / QUALITY_TABLE
    table = pd.read_csv(path, sep="\t", keep_default_na=False, na_values="n/a")
    assert list(table["case"]) == [f"sub-{n:02d}" for n in range(11)]
    middle = np.median(coverages)
    spread = max(1.4826 * np.median(np.abs(coverages - middle)), 0.006)
    np.testing.assert_allclose(table["brain_coverage_z"], (coverages - middle) / spread)
    assert flagged_cases(tmp_path).keys() == {"sub-09"}
    assert flagged_cases(tmp_path, ["sub-01"]) == {}
    assert "brain_coverage 0.5 is below 0.95" in table["flags"][9]
    assert "robust SD below the cohort's median" in table["flags"][9]
    assert "lowest brain_coverage: 0.5, sub-09" in caplog.text
    assert "sub-09 is flagged" in caplog.text


def test_a_flag_is_of_one_modality_in_one_space(tmp_path):
    anat = tmp_path / "sub-01" / "anat"
    low = {"Quality": {"brain_coverage": 0.5}}
    for tail, content in (
        ("space-MNI152NLin2009aSym_desc-prepared_T1w", {"Quality": {"brain_coverage": 1.0}}),
        ("space-MNI152NLin2009aSym_desc-prepared_T2w", low),
        ("space-MNI152NLin6Asym_desc-prepared_T1w", low),
    ):
        write_json(anat / f"sub-01_{tail}.json", content)
    here = {"space": "MNI152NLin2009aSym"}
    assert flagged_cases(tmp_path, modality="T1w", **here) == {}
    assert set(flagged_cases(tmp_path, modality="T2w", **here)) == {"sub-01"}
    assert set(flagged_cases(tmp_path, modality="T1w")) == {"sub-01"}
    assert "space" not in quality_table(tmp_path)


def test_few_scans_make_no_cohort_and_a_lesion_is_no_outlier(tmp_path):
    _write_cohort(tmp_path / "few", [1.0, 0.99])
    assert quality_table(tmp_path / "few")["brain_coverage_z"].isna().all()
    assert write_quality_table(tmp_path / "none") is None
    assert not GATES["mirror_similarity"].in_cohort


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"Quality": null}', '{"Quality": [1]}', '{"Quality": {"%s": "high"}}']
)
def test_a_damaged_sidecar_is_named_and_the_others_stay(tmp_path, caplog, content):
    _write_cohort(tmp_path, [1.0, 1.0])
    broken = next(tmp_path.glob("sub-00/anat/*.json"))
    broken.write_text(content.replace("%s", "native_brain_ml"), encoding="utf-8")
    assert list(quality_table(tmp_path)["case"]) == ["sub-01"]
    assert broken.name in caplog.text


@pytest.mark.data
@pytest.mark.skipif("HEMITWIN_DATA" not in os.environ, reason="HEMITWIN_DATA is not set")
@pytest.mark.parametrize(
    ("damage", "figure"),
    [
        (crop, "template_coverage"),
        (add_blob, "outline_similarity"),
        (add_metal, "intensity_outlier_share"),
        (turn, "template_similarity"),
    ],
)
def test_a_damaged_real_scan_is_flagged(tmp_path, damage, figure):
    bids = _write_damaged(tmp_path, damage)
    outcome = prepare(bids, tmp_path / "out")
    assert not outcome.failures
    flags = flagged_cases(tmp_path / "out")["sub-01"]
    assert any(flag.startswith(figure) for flag in flags), flags
    sidecar = outcome.results[0].volume.with_name(outcome.results[0].volume.name[:-7] + ".json")
    assert tuple(read_json(sidecar)["Flags"]) == flags


@pytest.mark.data
@pytest.mark.skipif("HEMITWIN_DATA" not in os.environ, reason="HEMITWIN_DATA is not set")
def test_half_a_real_brain_is_refused_by_name(tmp_path):
    outcome = prepare(_write_damaged(tmp_path, erase_half), tmp_path / "out")
    assert [one.case for one in outcome.failures] == ["sub-01"]
    assert "got scale" in outcome.failures[0].reason


def _write_damaged(folder: Path, damage: Callable[[Scan], Scan]) -> Path:
    source = Path(os.environ["HEMITWIN_DATA"]) / "bids-ds002748/sub-01/anat/sub-01_T1w.nii.gz"
    bad = damage(load_scan(source))
    target = folder / "bids/sub-01/anat/sub-01_T1w.nii.gz"
    target.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(bad.data.astype(np.float32), bad.affine), target)
    return folder / "bids"
