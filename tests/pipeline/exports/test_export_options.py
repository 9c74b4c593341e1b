"""How relevance comes to the surfaces, and what the sidecars say of it."""

import dataclasses
import shutil

import numpy as np
import pytest
from nibabel.cifti2.cifti2 import Cifti2Image
from nilearn.surface import load_surf_data

from hemitwin.atlases import (
    TEMPLATE_SPACE,
    hcpmmp_regions,
    load_fslr_surface,
    parcellate_dense,
    save_surface,
    template_grid,
    warp_surface,
)
from hemitwin.atlases.grayordinates import load_grayordinates
from hemitwin.atlases.surfaces.meshes import BRAIN_SURFACES
from hemitwin.pipeline.cli.main import main
from hemitwin.pipeline.exports.export import ExportConfig, export
from hemitwin.pipeline.exports.material import relations_file
from hemitwin.pipeline.preparation.native_space import NativeSpace
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.json_files import digest_file, read_json, write_json
from hemitwin.pipeline.stage.names import relations_path, surface_path
from hemitwin.transforms import load_scan

SHIFT_MM = np.array([4.0, -3.0, 5.0])


def linear_field():
    """The x coordinate plus twice y, of every voxel."""
    shape, affine = template_grid(2.0)
    places = np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    return (places @ [1.0, 2.0, 0.0]).reshape(shape).astype(np.float32)


def write_own_surfaces(case, derivatives):
    """Put the group's surfaces, moved aside in template space, where `hemitwin atlas` does."""
    native, digests = NativeSpace.of(case, "test"), {}
    for side in "LR":
        for kind in BRAIN_SURFACES:
            surface = load_fslr_surface(side, kind, space=TEMPLATE_SPACE)
            moved = surface.vertices + SHIFT_MM.astype(np.float32)
            surface = dataclasses.replace(surface, vertices=moved)
            path = surface_path(case, derivatives, side, kind)
            save_surface(path, warp_surface(surface, native.from_template))
            digests[path.name] = digest_file(path)
    content = {"Origin": "of the subject", "Own": True, "PreparedSHA256": digest_file(case.scan)}
    content |= {"Key": "", "Digests": digests}
    write_json(case.path(derivatives, "space-T1w_den-32k_surfaces.json"), content)


def metric_of(exported, side="L"):
    (path,) = [one for one in exported.files if f"hemi-{side}_space-fsLR" in one.name]
    return load_surf_data(str(path)), read_json(
        path.with_name(path.name.replace(".shape.gii", ".json"))
    )


def test_relevance_is_read_at_the_subjects_own_surfaces(one_prepared, plant, cache):
    case = plant(one_prepared, linear_field())
    (group,) = export(one_prepared, cache=cache).results
    values, told = metric_of(group)
    middle = load_fslr_surface("L", space=TEMPLATE_SPACE).vertices
    np.testing.assert_allclose(values, middle @ [1.0, 2.0, 0.0], atol=1e-2)
    assert "of the S1200 group" in told["Surfaces"]

    write_own_surfaces(case, one_prepared)
    (own,) = export(one_prepared, cache=cache).results
    values, told = metric_of(own)
    np.testing.assert_allclose(values, (middle + SHIFT_MM) @ [1.0, 2.0, 0.0], atol=1e-2)
    assert "of the subject" in told["Surfaces"]
    assert len(told["SurfaceFiles"]) == 6
    (path,) = [one for one in own.files if one.name.endswith(".dscalar.nii")]
    places, dense = load_grayordinates(), Cifti2Image.from_filename(path).get_fdata()[0]
    np.testing.assert_allclose(dense[places.cortex("L")], values[places.left], atol=1e-4)
    centres = places.voxels @ places.affine[:3, :3].T + places.affine[:3, 3]
    np.testing.assert_allclose(dense[places.subcortex], centres @ [1.0, 2.0, 0.0], atol=1e-2)


@pytest.fixture(scope="module")
def noisy(person, plant, cache, tmp_path_factory):
    """Exports of a map of noise, by how it came to the surface."""
    folder = shutil.copytree(person, tmp_path_factory.mktemp("noisy"), dirs_exist_ok=True)
    shape, _ = template_grid(2.0)
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    derivatives = folder / "derivatives"
    plant(derivatives, values)
    found = {}
    for name, config in {
        "ribbon": ExportConfig(mapping="ribbon"),
        "smooth": ExportConfig(smooth_mm=8.0),
        "plain": ExportConfig(),
    }.items():
        (exported,) = export(derivatives, cache=cache, config=config).results
        dense, parcels = (
            Cifti2Image.from_filename(path).get_fdata()[0]
            for ending in (".dscalar.nii", ".pscalar.nii")
            for path in exported.files
            if path.name.endswith(ending)
        )
        found[name] = (*metric_of(exported), dense, parcels)
    return found


def test_files_say_how_they_were_made(noisy):
    told = {name: one[1] for name, one in noisy.items()}
    assert told["plain"]["Mapping"] == "trilinear at the midthickness"
    assert told["ribbon"]["Mapping"].startswith("mean of six points")
    assert told["smooth"]["Smoothing_FWHM_mm"] == 8.0
    assert told["plain"]["Smoothing_FWHM_mm"] is None
    assert told["plain"]["Sources"][0].endswith("desc-lrp_relevance.nii.gz")
    # The mean through the ribbon is less noisy than one point, and a smoothed one less still.
    spread = {name: one[0].std() for name, one in noisy.items()}
    assert spread["smooth"] < 0.5 * spread["ribbon"] < 0.5 * spread["plain"]


def test_parcels_are_the_means_of_the_grayordinates_before_smoothing(noisy):
    *_, dense, parcels = noisy["plain"]
    assert len(parcels) == len(hcpmmp_regions())
    np.testing.assert_allclose(parcels, parcellate_dense(dense), atol=1e-6)
    # Smoothing would mix the regions.
    np.testing.assert_array_equal(parcels, noisy["smooth"][-1])


def test_the_scan_is_kept_as_it_is(one_prepared, plant, cache):
    case = plant(one_prepared)
    export(one_prepared, cache=cache)
    kept = case.path(one_prepared, "space-T1w_desc-scan_T1w.nii.gz")
    scan = load_scan(NativeSpace.of(case, "test").scan)
    again = load_scan(kept)
    np.testing.assert_allclose(again.data, scan.data, rtol=1e-6)
    np.testing.assert_allclose(again.affine, scan.affine, atol=1e-4)
    stamp = kept.stat().st_mtime_ns
    export(one_prepared, cache=cache)
    assert kept.stat().st_mtime_ns == stamp
    NativeSpace.of(case, "test").scan.unlink()
    (exported,) = export(one_prepared, cache=cache).results
    assert kept in exported.files
    kept.unlink()
    (exported,) = export(one_prepared, cache=cache).results
    assert len(exported.scene_names) == 3


def test_the_verb_takes_mapping_and_width(one_prepared, plant, capsys, monkeypatch, cache):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    case = plant(one_prepared)
    with pytest.raises(SystemExit) as stop:
        main(["export", str(one_prepared), "--mapping", "ribbon", "--smooth-mm", "6"])
    assert stop.value.code == 0
    assert "wb_view" in capsys.readouterr().out
    told = read_json(case.path(one_prepared, "space-fsLR_den-91k_desc-lrp_relevance.json"))
    assert told["Smoothing_FWHM_mm"] == 6.0
    assert told["Mapping"].startswith("mean of six points")
    told = read_json(case.path(one_prepared, "space-T1w_desc-lrp_relevance.json"))
    assert told["SumNative"] == pytest.approx(told["SumTemplate"], rel=0.02)
    assert told["Smoothing_FWHM_mm"] == 6.0


def test_the_matrix_that_is_exported_is_of_the_map_s_own_modality(tmp_path):
    case = Case("sub-01", "sub-01", tmp_path / "x.nii.gz", modality="T2w")
    written = relations_path(case, tmp_path)
    assert "desc-bilrpT2w_" in written.name
    assert relations_file(case, tmp_path) == written.with_suffix(".pconn.nii")
