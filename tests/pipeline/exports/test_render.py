import numpy as np
import pytest
from PIL import Image

from hemitwin.atlases import hcpmmp_surface_labels, load_fslr_surface, save_metric, save_surface
from hemitwin.pipeline.exports.render import render_surfaces

pytestmark = pytest.mark.slow


def test_left_really_is_left_without_workbench(tmp_path):
    sides = []
    for side in "LR":
        surface, metric = tmp_path / f"{side}.surf.gii", tmp_path / f"{side}.shape.gii"
        save_surface(surface, load_fslr_surface(side, "inflated"))
        values = (hcpmmp_surface_labels(side) == 1).astype(np.float32)  # 1 is L_V1
        save_metric(metric, values, side, name="V1")
        sides.append((surface, metric))
    picture = render_surfaces(tmp_path / "a.png", sides, "V1")
    rgb = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    coloured = np.ptp(rgb, axis=2) > 60
    half = coloured.shape[1] // 2
    assert coloured[:, :half].sum() > 100
    assert coloured[:, half:].sum() == 0
