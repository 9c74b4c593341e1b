"""Subjects' own surfaces, in the exact layout of FreeSurfer's and of the HCP's folders.

The surfaces are the group's, moved over a person that was made from the template: where they lie
is known, which it is of no real subject.
"""

import shutil
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from nibabel.freesurfer.io import write_annot, write_geometry
from nibabel.freesurfer.mghformat import MGHImage

from hemitwin.atlases import (
    FREESURFER_SIDES,
    FREESURFER_STRUCTURES,
    TEMPLATE_SPACE,
    Atlas,
    hcpmmp_atlas,
    hcpmmp_regions,
    hcpmmp_surface_labels,
    hcpmmp_volume,
    load_fslr_surface,
    load_surface,
    regions_of_table,
    save_surface,
    warp_surface,
)
from hemitwin.atlases.surfaces.spheres import _fsaverage_sphere, interpolate_on_sphere
from hemitwin.pipeline.cohort.brains import find_prepared
from hemitwin.pipeline.explanation.explain import explain
from hemitwin.pipeline.preparation.native_space import NativeSpace
from hemitwin.pipeline.regions.atlas import build_atlases
from hemitwin.pipeline.regions.finder import AtlasRequest
from hemitwin.pipeline.regions.own_cortex import find_own_cortex
from hemitwin.pipeline.regions.parcellate import parcellate
from hemitwin.pipeline.regions.surface_set import native_surfaces, read_surface_set
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.errors import CaseError
from hemitwin.pipeline.stage.json_files import read_json, write_json
from hemitwin.transforms import load_scan

pytestmark = [pytest.mark.xdist_group("path"), pytest.mark.slow]

CRAS = np.array([3.0, -17.0, 11.0])  # where FreeSurfer's own volumes have their centre
KINDS = ("white", "midthickness", "pial")


@pytest.fixture(scope="module")
def walked(prepared, tmp_path_factory):
    root = tmp_path_factory.mktemp("surfaces")
    shutil.copytree(prepared.bids, root / "bids")
    shutil.copytree(prepared.derivatives, root / "derivatives")
    return replace(prepared, bids=root / "bids", derivatives=root / "derivatives")


@pytest.fixture(scope="module")
def person(walked):
    """One prepared case, its native space and its surfaces by side and kind."""
    (case,) = find_prepared(walked.derivatives, labels=("01",))
    native = NativeSpace.of(case, "test")
    surfaces = {
        (side, kind): warp_surface(
            load_fslr_surface(side, kind, space=TEMPLATE_SPACE), native.from_template
        )
        for side in "LR"
        for kind in KINDS
    }
    return case, native, surfaces


def registered_sphere(side):
    """Where the fsLR vertices lie on the fsaverage sphere: a subject's sphere.reg."""
    fsaverage, faces, on_fslr = _fsaverage_sphere(side)
    own = load_fslr_surface(side, "sphere").vertices.astype(float)
    points = interpolate_on_sphere(own, on_fslr, faces)(fsaverage)
    return 100 * points / np.linalg.norm(points, axis=1, keepdims=True)


def segmentation_of(native):
    """Number the structures as FreeSurfer does, on the scan's grid."""
    back = np.linalg.inv(native.from_template)
    atlas = hcpmmp_volume(native.grid.data.shape, back @ native.grid.affine, cache_dir=None)
    code = np.zeros(380, dtype=np.int32)
    index = {region.name: region.index for region in hcpmmp_regions()}
    for number, name in FREESURFER_STRUCTURES.items():
        code[index[name]] = number
    return code[atlas.labels]


def mgh(values, affine):
    return MGHImage(cast("Any", values), affine)


def centred_header(shape):
    """A conformed volume's header: 1 mm, coronal slices, centred on CRAS."""
    affine = np.array([[-1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]])
    affine[:3, 3] = CRAS - affine[:3, :3] @ (np.array(shape) / 2)
    return mgh(np.zeros(shape, np.uint8), affine)


@pytest.fixture(scope="module")
def freesurfer(person, tmp_path_factory):
    """A SUBJECTS_DIR with one subject."""
    _, native, surfaces = person
    root = tmp_path_factory.mktemp("freesurfer")
    folder = root / "sub-01"
    for name in ("surf", "label", "mri"):
        (folder / name).mkdir(parents=True)
    centred_header((256, 256, 256)).to_filename(folder / "mri" / "orig.mgz")
    mgh(segmentation_of(native), native.grid.affine).to_filename(folder / "mri" / "aseg.mgz")
    for side, fs in FREESURFER_SIDES.items():
        for kind in ("white", "pial"):
            one = surfaces[side, kind]
            write_geometry(folder / "surf" / f"{fs}.{kind}", one.vertices - CRAS, one.faces)
        faces = surfaces[side, "white"].faces
        write_geometry(folder / "surf" / f"{fs}.sphere.reg", registered_sphere(side), faces)
    return root


def write_areas(folder, name, areas):
    """Write an annotation of both sides; `areas` names each vertex."""
    for side, fs in FREESURFER_SIDES.items():
        names = ["???", *sorted(set(areas[side]) - {"???"})]
        labels = np.array([names.index(one) for one in areas[side]])
        colours = np.zeros((len(names), 5), dtype=int)
        colours[:, 0] = np.arange(len(names)) % 256
        colours[:, 1] = np.arange(len(names)) // 256 + 1
        write_annot(folder / "label" / f"{fs}.{name}.annot", labels, colours, names, True)


def glasser_names(side):
    name = {region.index: f"{region.name}_ROI" for region in hcpmmp_regions()}
    return [name.get(index, "???") for index in hcpmmp_surface_labels(side).tolist()]


def agreement(labels, other, regions):
    """Share of the voxels that both call cortex and that both call the same."""
    both = np.isin(labels, regions) & np.isin(other, regions)
    return (labels == other)[both].mean()


@pytest.fixture(scope="module")
def by_freesurfer(walked, freesurfer):
    outcome = build_atlases(
        walked.derivatives, labels=("01",), request=AtlasRequest(surfaces=freesurfer)
    )
    assert not outcome.failures
    return outcome.results[0]


def test_the_surfaces_come_back_from_freesurfers_folder(by_freesurfer, person, walked):
    case, _, surfaces = person
    assert read_json(sidecar_of(by_freesurfer.native))["Segmentation"] == "aseg.mgz"
    for path, side in native_surfaces(case, walked.derivatives):
        kind = path.name.removesuffix(".surf.gii").rsplit("_", 1)[1]
        found = load_surface(path, side, kind=kind)
        wanted = surfaces[side, kind].vertices
        if kind == "midthickness":
            inner, outer = (surfaces[side, one].vertices for one in ("white", "pial"))
            wanted = (inner + outer) / 2
        # There and back between the spheres: a small part of an edge.
        distance = np.linalg.norm(found.vertices - wanted, axis=1)
        assert np.median(distance) < 0.1
        assert np.quantile(distance, 0.99) < 0.5


def test_regions_lie_where_the_surfaces_put_them(by_freesurfer, person):
    _, native, _ = person
    labels = load_scan(by_freesurfer.native).data.astype(int)
    back = np.linalg.inv(native.from_template)
    template = hcpmmp_volume(labels.shape, back @ native.grid.affine, cache_dir=None).labels
    cortical = np.arange(1, 361)
    # Labelled by columns in the one, by layers of vertices in the other: borders differ.
    assert agreement(labels, template, cortical) > 0.93
    np.testing.assert_array_equal(labels > 360, (template > 360) & (labels > 0) & (labels > 360))
    structures = np.where(template > 360, template, 0)
    inside = load_scan(by_freesurfer.native).data > 360
    assert (labels[inside] == structures[inside]).all()
    assert 2 * inside.sum() / (inside.sum() + (structures > 0).sum()) > 0.95


def test_another_atlas_does_not_bring_the_groups_surfaces_back(by_freesurfer, person, walked):
    case, _, _ = person
    paths = [path for path, _ in native_surfaces(case, walked.derivatives)]
    before = [path.read_bytes() for path in paths]
    own = hcpmmp_atlas()
    cortex = {side: (labels > 0).astype(np.int32) for side, labels in own.cortex.items()}
    table = pd.DataFrame({"index": [1], "name": ["cortex"]})
    request = AtlasRequest(Atlas("one", regions_of_table(table), cortex))
    assert not build_atlases(walked.derivatives, labels=("01",), request=request).failures
    assert [path.read_bytes() for path in paths] == before
    content = read_surface_set(case, walked.derivatives)
    assert content is not None
    assert "FreeSurfer" in content["Origin"]
    for path in case.folder(walked.derivatives).glob("*from-MNI*to-prepared*"):
        path.unlink()
    assert by_freesurfer.native.is_file()


def test_exchanged_sides_are_refused(walked, freesurfer, tmp_path):
    folder = shutil.copytree(freesurfer, tmp_path / "fs") / "sub-01" / "surf"
    for kind in ("white", "pial"):
        left, right = folder / f"lh.{kind}", folder / f"rh.{kind}"
        kept = left.read_bytes()
        left.write_bytes(right.read_bytes())
        right.write_bytes(kept)
    request = AtlasRequest(surfaces=folder.parents[1])
    (failed,) = build_atlases(walked.derivatives, labels=("01",), request=request).failures
    assert "must lie on their side" in failed.reason


def test_a_subject_with_several_scans_needs_a_folder_for_each(walked, freesurfer, tmp_path):
    (case,) = find_prepared(walked.derivatives, labels=("01",))
    assert find_own_cortex(case, freesurfer) is not None
    scan = replace(case, name="sub-01_ses-2")
    assert find_own_cortex(scan, freesurfer) is not None
    with pytest.raises(CaseError, match="sub-01_ses-2 or 01_ses-2 with"):
        find_own_cortex(scan, freesurfer, several=True)
    with pytest.raises(CaseError, match="found none"):
        find_own_cortex(case, tmp_path)


def test_there_is_no_deformation_where_surfaces_make_it_needless(by_freesurfer, person, walked):
    case, _, _ = person
    assert by_freesurfer.quality.least_jacobian is None
    assert not list(case.folder(walked.derivatives).glob("*from-MNI*to-prepared*"))


def test_an_annotation_of_the_areas_is_taken_by_name(person, walked, freesurfer, tmp_path):
    folder = shutil.copytree(freesurfer, tmp_path / "fs") / "sub-01"
    write_areas(folder, "HCP-MMP1", {side: glasser_names(side) for side in "LR"})
    for fs in FREESURFER_SIDES.values():
        (folder / "surf" / f"{fs}.sphere.reg").rename(folder / "surf" / f"{fs}.sphere.away")
    request = AtlasRequest(surfaces=folder.parent)
    (found,) = build_atlases(walked.derivatives, labels=("01",), request=request).results
    _, native, _ = person
    labels = load_scan(found.native).data
    back = np.linalg.inv(native.from_template)
    template = hcpmmp_volume(labels.shape, back @ native.grid.affine, cache_dir=None).labels
    assert agreement(labels, template, np.arange(1, 361)) > 0.93


def test_areas_of_another_annotation_become_an_atlas(walked, freesurfer, run, cache, tmp_path):
    folder = shutil.copytree(freesurfer, tmp_path / "fs") / "sub-01"
    areas = {}
    for side in "LR":
        front = load_fslr_surface(side).vertices[:, 1] > -20
        cortex = hcpmmp_surface_labels(side) > 0
        areas[side] = np.where(cortex, np.where(front, "front", "back"), "unknown").tolist()
    write_areas(folder, "aparc", areas)
    request = AtlasRequest(surfaces=folder.parent, annotation="aparc")
    outcome = build_atlases(walked.derivatives, labels=("01",), request=request)
    assert not outcome.failures
    table = pd.read_csv(walked.derivatives / "atlas-aparc_dseg.tsv", sep="\t")
    assert table["name"].tolist() == ["L_back", "L_front", "R_back", "R_front"]
    assert table["partner"].tolist() == ["R_back", "R_front", "L_back", "L_front"]
    labels = load_scan(outcome.results[0].native)
    y = labels.affine[1, :3] @ np.argwhere(labels.data == 1).mean(axis=0) + labels.affine[1, 3]
    other = labels.affine[1, :3] @ np.argwhere(labels.data == 2).mean(axis=0) + labels.affine[1, 3]
    assert y < other
    explain(run, walked.derivatives, labels=("01",))
    explain(run, walked.derivatives, labels=("02",))
    made = parcellate(walked.derivatives, cache=cache, labels=("01", "02"), atlas="aparc")
    found = made.results[0].table
    assert found["name"].tolist()[:4] == ["L_back", "L_front", "R_back", "R_front"]
    assert found["sum"].sum() == pytest.approx(
        read_json(made.results[0].path.with_suffix(".json"))["ExplainedScore"]["value"], rel=1e-6
    )
    assert "must have regions of aparc" in made.failures[0].reason


def test_files_that_are_missing_are_named(walked, freesurfer, tmp_path):
    folder = shutil.copytree(freesurfer, tmp_path / "fs") / "sub-01"
    (folder / "surf" / "rh.sphere.reg").unlink()
    request = AtlasRequest(surfaces=folder.parent)
    (failed,) = build_atlases(walked.derivatives, labels=("01",), request=request).failures
    assert "rh.sphere.reg" in failed.reason
    (other,) = build_atlases(walked.derivatives, labels=("02",), request=request).failures
    assert "sub-02 or 02 with surf/lh.white" in other.reason


def test_surfaces_of_another_brain_are_refused(walked, freesurfer, tmp_path):
    folder = shutil.copytree(freesurfer, tmp_path / "fs") / "sub-01"
    centred = centred_header((256, 256, 256))
    moved = np.array(centred.affine)
    moved[1, 3] += 25
    mgh(np.zeros((256, 256, 256), np.uint8), moved).to_filename(folder / "mri" / "orig.mgz")
    request = AtlasRequest(surfaces=folder.parent)
    (failed,) = build_atlases(walked.derivatives, labels=("01",), request=request).failures
    assert "made from this very scan" in failed.reason


@pytest.fixture(scope="module")
def hcp(person, tmp_path_factory):
    """An HCP tree with one subject's T1w folder."""
    _, native, surfaces = person
    root = tmp_path_factory.mktemp("hcp")
    meshes = root / "01" / "T1w" / "fsaverage_LR32k"
    meshes.mkdir(parents=True)
    for (side, kind), one in surfaces.items():
        save_surface(meshes / f"01.{side}.{kind}_MSMAll.32k_fs_LR.surf.gii", one)
    volume = mgh(segmentation_of(native), native.grid.affine)
    from nibabel.nifti1 import Nifti1Image  # noqa: PLC0415

    Nifti1Image(np.asarray(volume.dataobj), volume.affine).to_filename(
        root / "01" / "T1w" / "aparc+aseg.nii.gz"
    )
    return root


def test_the_connectomes_folder_gives_the_same_regions(walked, hcp, by_freesurfer, person):
    first = load_scan(by_freesurfer.native).data.copy()
    case, _, _ = person
    sidecar = sidecar_of(case.scan)
    content = read_json(sidecar)
    named = {
        side: str(hcp / f"01/T1w/fsaverage_LR32k/01.{side}.midthickness_MSMAll.32k_fs_LR.surf.gii")
        for side in "LR"
    }
    # As `prepare` leaves it for a scan of an HCP tree: no option is needed.
    write_json(sidecar, {**content, "Surfaces": named})
    outcome = build_atlases(walked.derivatives, labels=("01",))
    write_json(sidecar, content)
    assert not outcome.failures
    told = read_json(sidecar_of(outcome.results[0].native))
    assert "HCP's pipelines" in told["Regions"]
    labels = load_scan(outcome.results[0].native).data
    assert (labels == first).mean() > 0.995
    given = AtlasRequest(surfaces=hcp)
    again = build_atlases(walked.derivatives, labels=("01",), request=given).results[0]
    np.testing.assert_array_equal(load_scan(again.native).data, labels)
