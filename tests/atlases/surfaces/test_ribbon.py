"""Between white and pial: inside is inside, and the label is the nearest column's."""

import nibabel as nib
import numpy as np
import pytest

from hemitwin.atlases import (
    Ribbon,
    hcpmmp_regions,
    hcpmmp_surface_labels,
    label_in_ribbons,
    load_fslr_surface,
    save_surface,
    save_surface_labels,
    save_volume,
)


def shell(inner, outer, centre=(0.0, 0.0, 0.0), count=6000):
    """A round cortex: label 1 above the equator, 2 below; no triangles."""
    number = np.arange(count) + 0.5
    height = 1 - 2 * number / count
    turn = np.pi * (1 + 5**0.5) * number
    radius = np.sqrt(1 - height**2)
    unit = np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)
    labels = np.where(height > 0, 1, 2).astype(np.int32)
    faces = np.zeros((0, 3), dtype=np.int64)
    return Ribbon(centre + inner * unit, centre + outer * unit, faces, labels)


def test_only_what_lies_between_the_surfaces_has_a_label():
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((400, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    radius = rng.uniform(10, 40, 400)
    found = label_in_ribbons(directions * radius[:, None], [shell(20, 23)])
    inside = (radius > 20) & (radius < 23)
    np.testing.assert_array_equal(found > 0, inside)
    clear = inside & (np.abs(directions[:, 2]) > 0.05)
    np.testing.assert_array_equal(found[clear], np.where(directions[clear, 2] > 0, 1, 2))


def test_two_hemispheres_do_not_take_from_each_other():
    left, right = shell(20, 23, (-25.0, 0, 0)), shell(20, 23, (25.0, 0, 0))
    right = Ribbon(right.white, right.pial, right.faces, right.labels + 2)
    points = np.array([[-25.0, 0, 21.5], [25.0, 0, 21.5], [0, 0, 0], [3.6, 0, 0.1]])
    assert label_in_ribbons(points, [left, right]).tolist() == [1, 3, 0, 3]


def test_wide_meshes_are_filled_in_amid_their_edges():
    white = np.array([[0.0, 0, 0], [4.0, 0, 0], [0, 4.0, 0]])
    one = Ribbon(white, white + np.array([0, 0, 3.0]), np.array([[0, 1, 2]]), np.ones(3, np.int32))
    inner, outer, labels = one.columns
    assert len(inner) == len(outer) == len(labels) == 6
    assert [2.0, 0.0, 0.0] in inner.tolist()


def test_surfaces_of_two_meshes_are_refused():
    one = shell(20, 23)
    triangle = np.array([[0, 1, len(one.white)]])
    with pytest.raises(ValueError, match="must have the same vertices"):
        Ribbon(one.white, one.pial, triangle, one.labels)


@pytest.mark.workbench
@pytest.mark.slow
def test_the_ribbon_is_workbenchs(tmp_path, wb_command):
    white, pial = (load_fslr_surface("L", kind) for kind in ("white", "pial"))
    labels = hcpmmp_surface_labels("L")
    # The occipital lobe: Workbench needs most of a minute for a hemisphere at 2 mm.
    shape, affine = (34, 28, 40), np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -66, -108, -36
    voxels = np.indices(shape).reshape(3, -1).T
    points = voxels @ affine[:3, :3].T + affine[:3, 3]
    ours = label_in_ribbons(points, [Ribbon.between(white, pial, labels)]).reshape(shape)
    save_surface(tmp_path / "w.surf.gii", white)
    save_surface(tmp_path / "p.surf.gii", pial)
    save_surface(tmp_path / "m.surf.gii", load_fslr_surface("L"))
    save_surface_labels(tmp_path / "l.label.gii", labels, "L", regions=hcpmmp_regions())
    save_volume(tmp_path / "grid.nii.gz", np.zeros(shape, np.float32), affine)
    ribbon = ("-ribbon-constrained", tmp_path / "w.surf.gii", tmp_path / "p.surf.gii")
    inputs = [tmp_path / name for name in ("l.label.gii", "m.surf.gii", "grid.nii.gz")]
    wb_command("-label-to-volume-mapping", *inputs, tmp_path / "out.nii.gz", *ribbon)
    theirs = np.asarray(nib.Nifti1Image.from_filename(tmp_path / "out.nii.gz").dataobj).astype(int)
    both = (ours > 0) & (theirs > 0)
    assert 2 * both.sum() / ((ours > 0).sum() + (theirs > 0).sum()) > 0.96
    assert (ours == theirs)[both].mean() > 0.93
