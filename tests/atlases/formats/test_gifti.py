import numpy as np
import pytest
from nibabel.gifti.gifti import GiftiImage

from hemitwin.atlases import (
    Palette,
    hcpmmp_regions,
    hcpmmp_surface_labels,
    load_fslr_surface,
    save_metric,
    save_surface,
    save_surface_labels,
)


@pytest.mark.parametrize(("side", "structure"), [("L", "CortexLeft"), ("R", "CortexRight")])
def test_surface_survives_the_round_trip(tmp_path, side, structure):
    surface = load_fslr_surface(side, "inflated")
    save_surface(tmp_path / "a.surf.gii", surface)
    image = GiftiImage.from_filename(tmp_path / "a.surf.gii")
    vertices, faces = image.agg_data(("pointset", "triangle"))
    np.testing.assert_array_equal(vertices, surface.vertices)
    np.testing.assert_array_equal(faces, surface.faces)
    assert image.meta["AnatomicalStructurePrimary"] == structure
    assert image.darrays[0].meta["GeometricType"] == "Inflated"


def test_metric_survives_as_float32_with_its_palette(tmp_path):
    values = np.random.default_rng(0).normal(size=20)
    save_metric(tmp_path / "a.shape.gii", values, "R", name="lrp", palette=Palette(2.0))
    image = GiftiImage.from_filename(tmp_path / "a.shape.gii")
    np.testing.assert_array_equal(image.agg_data(), values.astype(np.float32))
    assert image.darrays[0].meta["Name"] == "lrp"
    assert "ROY-BIG-BL" in image.darrays[0].meta["PaletteColorMapping"]


def test_labels_survive_with_names_and_colours(tmp_path):
    labels = hcpmmp_surface_labels("L")
    save_surface_labels(tmp_path / "a.label.gii", labels, "L", regions=hcpmmp_regions())
    image = GiftiImage.from_filename(tmp_path / "a.label.gii")
    np.testing.assert_array_equal(image.agg_data(), labels)
    names = image.labeltable.get_labels_as_dict()
    assert len(names) == 181
    assert names[0] == "???"
    assert names[1] == "L_V1"


def test_wrong_names_and_sides_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"end in \.shape\.gii"):
        save_metric(tmp_path / "a.gii", np.zeros(3), "L", name="x")
    with pytest.raises(ValueError, match=r"end in \.surf\.gii"):
        save_surface(tmp_path / "a.gii", load_fslr_surface("L"))
    with pytest.raises(ValueError, match=r"end in \.label\.gii"):
        save_surface_labels(tmp_path / "a.gii", np.zeros(3, np.int32), "L", regions=())
    with pytest.raises(ValueError, match="'L' or 'R'"):
        save_metric(tmp_path / "a.shape.gii", np.zeros(3), "left", name="x")
    assert not list(tmp_path.iterdir())
