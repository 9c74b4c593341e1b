"""Scene and spec files as text, and everything as Connectome Workbench itself sees it."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from nibabel.cifti2.cifti2 import Cifti2Image
from nibabel.gifti.gifti import GiftiImage

from hemitwin.atlases import (
    TEMPLATE_SPACE,
    DataFile,
    Overlay,
    SurfaceMontage,
    VolumeSlices,
    WholeBrain,
    grayordinates_from_volume,
    hcpmmp_regions,
    hcpmmp_surface_labels,
    load_fslr_surface,
    load_template,
    parcellate_dense,
    project_to_surface,
    relevance_palette,
    save_dense_labels,
    save_dense_scalar,
    save_labels_volume,
    save_metric,
    save_parcel_scalar,
    save_surface,
    save_surface_labels,
    save_volume,
    write_scene,
    write_spec,
)


def make_relevance(template):
    """For on the left, against on the right."""
    index = np.stack(np.meshgrid(*map(np.arange, template.data.shape), indexing="ij"), -1)
    world = index @ template.affine[:3, :3].T + template.affine[:3, 3]
    left = np.exp(-((world - [-45, -20, 10]) ** 2).sum(-1) / 2 / 12**2)
    right = np.exp(-((world - [40, 30, 20]) ** 2).sum(-1) / 2 / 12**2)
    return ((left - 0.7 * right) * (template.data > 0)).astype(np.float32)


@pytest.fixture(scope="module")
def export(tmp_path_factory, coarse_atlas):
    """One subject's files, and the values that went into them."""
    folder = tmp_path_factory.mktemp("export") / "anat"
    template = load_template(4.0)
    relevance = make_relevance(template)
    dense = grayordinates_from_volume(relevance, template.affine)
    palette = relevance_palette(relevance)
    files = {}
    for side in ("L", "R"):
        files[f"{side}.mid"] = DataFile(folder / f"{side}.mid.surf.gii", side)
        files[f"{side}.flat"] = DataFile(folder / f"{side}.flat.surf.gii", side)
        for kind, name in (("midthickness", "mid"), ("flat", "flat")):
            save_surface(files[f"{side}.{name}"].path, load_fslr_surface(side, kind))
        files[f"{side}.metric"] = DataFile(folder / f"{side}.shape.gii", side)
        values = project_to_surface(relevance, template.affine, load_fslr_surface(side))
        save_metric(files[f"{side}.metric"].path, values, side, name="lrp", palette=palette)
        files[f"{side}.label"] = DataFile(folder / f"{side}.label.gii", side)
        save_surface_labels(
            files[f"{side}.label"].path,
            hcpmmp_surface_labels(side),
            side,
            regions=hcpmmp_regions(),
        )
    for name in ("t1.nii.gz", "rel.nii.gz", "dseg.nii.gz", "d.dscalar.nii", "m.dlabel.nii"):
        files[name] = DataFile(folder / name)
    files["p.pscalar.nii"] = DataFile(folder / "p.pscalar.nii")
    save_volume(files["t1.nii.gz"].path, template.data, template.affine, space=TEMPLATE_SPACE)
    save_volume(files["rel.nii.gz"].path, relevance, template.affine, palette=palette)
    save_labels_volume(files["dseg.nii.gz"].path, coarse_atlas)
    save_dense_scalar(files["d.dscalar.nii"].path, dense, name="lrp", palette=palette)
    save_dense_labels(files["m.dlabel.nii"].path)
    save_parcel_scalar(
        files["p.pscalar.nii"].path, parcellate_dense(dense), name="lrp", palette=palette
    )
    return folder.parent, files, dense


def make_scenes(files):
    surfaces = files["L.mid"], files["R.mid"]
    metrics = Overlay(files["L.metric"]), Overlay(files["R.metric"])
    return [
        SurfaceMontage("dense", *surfaces, (Overlay(files["d.dscalar.nii"]),)),
        SurfaceMontage("parcels", *surfaces, (Overlay(files["p.pscalar.nii"]),)),
        SurfaceMontage("areas", *surfaces, (Overlay(files["m.dlabel.nii"]),)),
        SurfaceMontage("metric", *surfaces, metrics),
        VolumeSlices(
            "slices",
            (Overlay(files["rel.nii.gz"], 0.7), Overlay(files["t1.nii.gz"])),
            position_mm=(-45.0, -20.0, 10.0),
        ),
        VolumeSlices(
            "montage",
            (Overlay(files["dseg.nii.gz"], 0.6), Overlay(files["t1.nii.gz"])),
            plane="AXIAL",
            montage=(3, 4, 4),
        ),
        SurfaceMontage(
            "flat", files["L.flat"], files["R.flat"], (Overlay(files["p.pscalar.nii"]),), flat=True
        ),
        WholeBrain(
            "whole",
            (files["R.mid"],),
            (metrics[1], Overlay(files["rel.nii.gz"], 0.7), Overlay(files["t1.nii.gz"])),
            position_mm=(-45.0, -20.0, 10.0),
            planes=("AXIAL", "CORONAL"),
            seen_from=(-1.0, 0.7, 0.6),
        ),
    ]


def test_scene_holds_relative_paths_that_exist(export):
    folder, files, _ = export
    write_scene(folder / "workbench" / "a.scene", make_scenes(files))
    root = ET.parse(folder / "workbench" / "a.scene").getroot()  # noqa: S314  our own file
    paths = [e.text or "" for e in root.iter("Object") if e.get("Name") == "fileName"]
    assert len(paths) == 3 + 3 + 3 + 4 + 2 + 2 + 3 + 4
    assert all((folder / "workbench" / path).is_file() for path in paths)
    assert all(path.startswith("../anat/") for path in paths)
    assert [e.findtext("Name") for e in root.findall("Scene")] == [
        scene.name for scene in make_scenes(files)
    ]


def test_stated_lengths_equal_the_number_of_elements(export):
    folder, files, _ = export
    write_scene(folder / "workbench" / "b.scene", make_scenes(files))
    root = ET.parse(folder / "workbench" / "b.scene").getroot()  # noqa: S314  our own file
    for element in root.iter("ObjectArray"):
        assert int(element.get("Length", "-1")) == len(element)


def test_spec_lists_every_file_with_its_side(export):
    folder, files, _ = export
    write_spec(folder / "workbench" / "a.wb.spec", list(files.values()))
    root = ET.parse(folder / "workbench" / "a.wb.spec").getroot()  # noqa: S314  our own file
    listed = {e.text: e.get("Structure") for e in root.findall("DataFile")}
    assert len(listed) == len(files)
    assert listed["../anat/L.mid.surf.gii"] == "CortexLeft"
    assert listed["../anat/R.shape.gii"] == "CortexRight"


def test_missing_files_and_repeated_names_are_refused(tmp_path, export):
    _, files, _ = export
    gone = DataFile(tmp_path / "gone.dscalar.nii")
    slices = VolumeSlices("a", (Overlay(files["t1.nii.gz"]),))
    with pytest.raises(FileNotFoundError, match=r"file of a spec must exist.*gone"):
        write_spec(tmp_path / "a.spec", [gone])
    with pytest.raises(FileNotFoundError, match=r"file of a scene must exist.*gone"):
        write_scene(tmp_path / "a.scene", [VolumeSlices("a", (Overlay(gone),))])
    with pytest.raises(ValueError, match="different names"):
        write_scene(tmp_path / "a.scene", [slices, slices])
    with pytest.raises(ValueError, match=r"end in \.spec"):
        write_spec(tmp_path / "a.txt", [])
    assert not list(tmp_path.iterdir())


def test_files_without_type_or_side_are_refused(tmp_path):
    with pytest.raises(ValueError, match="file must end in"):
        DataFile(tmp_path / "a.mgz")
    with pytest.raises(ValueError, match="hemisphere must be L or R"):
        DataFile(tmp_path / "a.surf.gii")
    with pytest.raises(ValueError, match="None otherwise"):
        DataFile(tmp_path / "a.nii", "L")
    with pytest.raises(ValueError, match="plane must be one of"):
        VolumeSlices("a", (), plane="ALL", montage=(2, 2, 1))


EXPECTED = {
    "L.mid": ("Surface", "CortexLeft"),
    "R.mid": ("Surface", "CortexRight"),
    "L.flat": ("Surface", "CortexLeft"),
    "L.metric": ("Metric", "CortexLeft"),
    "R.metric": ("Metric", "CortexRight"),
    "L.label": ("Label", "CortexLeft"),
    "R.label": ("Label", "CortexRight"),
    "d.dscalar.nii": ("CIFTI - Dense Scalar", "CortexLeft CortexRight"),
    "m.dlabel.nii": ("CIFTI - Dense Label", "CortexLeft CortexRight"),
    "p.pscalar.nii": ("CIFTI - Parcel Scalar", "CortexLeft CortexRight"),
    "t1.nii.gz": ("Volume", "Invalid"),
    "rel.nii.gz": ("Volume", "Invalid"),
    "dseg.nii.gz": ("Volume", "Invalid"),
}


@pytest.mark.workbench
@pytest.mark.parametrize("name", EXPECTED)
def test_workbench_reads_type_and_structure(export, wb_command, name):
    output = wb_command("-file-information", export[1][name].path)
    facts = dict(line.split(":", 1) for line in output.splitlines() if ":" in line)
    kind, structure = EXPECTED[name]
    assert facts["Type"].strip() == kind
    assert facts["Structure"].strip() == structure
    has_table = kind.endswith("Label") or name == "dseg.nii.gz"
    assert facts["Maps with LabelTable"].strip() == str(has_table).lower()


@pytest.mark.workbench
@pytest.mark.parametrize(
    "scene", ["dense", "parcels", "areas", "metric", "slices", "montage", "flat", "whole"]
)
def test_workbench_renders_every_scene(export, wb_command, scene):
    folder, files, _ = export
    path, picture = folder / "workbench" / "c.scene", folder / f"{scene}.png"
    write_scene(path, make_scenes(files))
    wb_command("-show-scene", path, scene, picture, 300, 225)
    assert picture.stat().st_size > 5000


@pytest.mark.workbench
def test_parcellation_equals_workbench(export, wb_command, tmp_path):
    _, files, dense = export
    theirs = tmp_path / "p.pscalar.nii"
    wb_command(
        "-cifti-parcellate",
        files["d.dscalar.nii"].path,
        files["m.dlabel.nii"].path,
        "COLUMN",
        theirs,
    )
    image, ours = (
        Cifti2Image.from_filename(theirs),
        Cifti2Image.from_filename(files["p.pscalar.nii"].path),
    )
    np.testing.assert_allclose(image.get_fdata()[0], parcellate_dense(dense), atol=1e-6)
    assert image.header.get_axis(1).name.tolist() == ours.header.get_axis(1).name.tolist()
    assert image.header.get_axis(1) == ours.header.get_axis(1)


@pytest.mark.workbench
def test_projection_equals_workbench(export, wb_command, tmp_path):
    _, files, _ = export
    theirs = tmp_path / "l.func.gii"
    wb_command(
        "-volume-to-surface-mapping",
        files["rel.nii.gz"].path,
        files["L.mid"].path,
        theirs,
        "-trilinear",
    )
    ours = GiftiImage.from_filename(files["L.metric"].path).agg_data()
    np.testing.assert_allclose(GiftiImage.from_filename(theirs).agg_data(), ours, atol=1e-5)


@pytest.mark.workbench
def test_dense_axis_equals_the_one_workbench_makes(export, wb_command, tmp_path):
    """Separate our file into its parts, let Workbench put them together: the same axis."""
    _, files, dense = export
    parts = {
        "-left-metric": tmp_path / "l.func.gii",
        "-right-metric": tmp_path / "r.func.gii",
        "-volume": tmp_path / "v.nii.gz",
    }
    rois = {"l": tmp_path / "lroi.func.gii", "r": tmp_path / "rroi.func.gii"}
    labels = tmp_path / "structures.nii.gz"
    wb_command(
        *("-cifti-separate", files["d.dscalar.nii"].path, "COLUMN"),
        *("-volume-all", parts["-volume"], "-label", labels),
        *("-metric", "CORTEX_LEFT", parts["-left-metric"], "-roi", rois["l"]),
        *("-metric", "CORTEX_RIGHT", parts["-right-metric"], "-roi", rois["r"]),
    )
    whole = tmp_path / "again.dscalar.nii"
    wb_command(
        *("-cifti-create-dense-scalar", whole, "-volume", parts["-volume"], labels),
        *("-left-metric", parts["-left-metric"], "-roi-left", rois["l"]),
        *("-right-metric", parts["-right-metric"], "-roi-right", rois["r"]),
    )
    image, ours = (
        Cifti2Image.from_filename(whole),
        Cifti2Image.from_filename(files["d.dscalar.nii"].path),
    )
    assert image.header.get_axis(1) == ours.header.get_axis(1)
    np.testing.assert_allclose(image.get_fdata()[0], dense, atol=1e-6)


@pytest.mark.workbench
def test_workbench_reads_the_names_of_a_label_volume(export, wb_command, tmp_path):
    _, files, _ = export
    wb_command("-volume-label-export-table", files["dseg.nii.gz"].path, 1, tmp_path / "t.txt")
    lines = (tmp_path / "t.txt").read_text().splitlines()
    assert lines[::2] == [region.name for region in hcpmmp_regions()]
    assert [int(line.split()[0]) for line in lines[1::2]] == list(range(1, 380))
