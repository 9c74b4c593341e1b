import dataclasses

import numpy as np
import pytest

from hemitwin.atlases import Surface, load_fslr_surface, project_to_surface, warp_surface
from hemitwin.atlases.surfaces.meshes import SURFACE_KINDS


def make_tetrahedron():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=np.int32)
    return Surface(vertices, faces, "L", "midthickness")


def enclosed_volume(surface):
    """Positive when the triangles are counter-clockwise from outside."""
    a, b, c = (surface.vertices[surface.faces[:, i]] for i in range(3))
    return np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6


@pytest.mark.parametrize("kind", SURFACE_KINDS)
def test_all_surfaces_share_one_numbering(kind):
    for hemisphere in ("L", "R"):
        surface = load_fslr_surface(hemisphere, kind)
        assert surface.vertices.shape == (32492, 3)
        assert surface.hemisphere == hemisphere


def test_hemispheres_lie_on_their_side():
    assert np.median(load_fslr_surface("L").vertices[:, 0]) < -20
    assert np.median(load_fslr_surface("R").vertices[:, 0]) > 20


def test_linear_field_is_read_exactly():
    surface = load_fslr_surface("R")
    affine = np.diag([3.0, 3, 3, 1])
    affine[:3, 3] = (-90, -120, -80)
    index = np.stack(np.meshgrid(*map(np.arange, (61, 70, 60)), indexing="ij"), -1)
    volume = (index @ affine[:3, :3].T + affine[:3, 3]) @ [1.0, 0.5, -2.0]
    expected = surface.vertices @ [1.0, 0.5, -2.0]
    np.testing.assert_allclose(project_to_surface(volume, affine, surface), expected, atol=1e-3)


def test_warp_and_inverse_is_identity():
    surface = make_tetrahedron()
    matrix = np.array([[0, -1.1, 0, 4], [0.9, 0, 0, 5], [0, 0.1, 1, 6], [0, 0, 0, 1]])
    back = warp_surface(warp_surface(surface, matrix), np.linalg.inv(matrix))
    np.testing.assert_allclose(back.vertices, surface.vertices, atol=1e-5)
    np.testing.assert_array_equal(back.faces, surface.faces)


def test_mirroring_keeps_the_outside_outside():
    surface = make_tetrahedron()
    mirrored = warp_surface(surface, np.diag([-1.0, 1, 1, 1]))
    assert enclosed_volume(surface) == pytest.approx(1 / 6)
    assert enclosed_volume(mirrored) == pytest.approx(1 / 6)


def test_values_do_not_change_when_volume_and_surface_move_together():
    rng = np.random.default_rng(0)
    volume, affine = rng.normal(size=(4, 4, 4)), np.eye(4)
    affine[:3, 3] = -1
    matrix = np.array([[0.8, -0.6, 0, 4], [0.6, 0.8, 0, 5], [0, 0, 1.2, 6], [0, 0, 0, 1]])
    surface = make_tetrahedron()
    np.testing.assert_allclose(
        project_to_surface(volume, matrix @ affine, warp_surface(surface, matrix)),
        project_to_surface(volume, affine, surface),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hemisphere": "left"}, "'L' or 'R'"),
        ({"kind": "grey"}, "kind must be one of"),
        ({"faces": np.array([[0, 1, 4]], dtype=np.int32)}, "vertices 0 to 3"),
    ],
)
def test_contradictory_surfaces_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(make_tetrahedron(), **change)


def test_inflated_surfaces_hold_no_anatomy():
    inflated = dataclasses.replace(make_tetrahedron(), kind="inflated")
    with pytest.raises(ValueError, match="lie in the brain"):
        project_to_surface(np.zeros((2, 2, 2)), np.eye(4), inflated)


def test_unknown_surface_is_refused():
    with pytest.raises(ValueError, match="surface must be L or R"):
        load_fslr_surface("L", "grey")
