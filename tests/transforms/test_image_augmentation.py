"""Changes of 2D images: what each does, and that nothing else happens."""

import numpy as np
import pytest
import torch

from hemitwin.transforms import ImageAugmentationConfig, augment_images


def images(count=3, rows=9, columns=9):
    return torch.rand((count, 1, rows, columns), generator=torch.Generator().manual_seed(0))


def changed(given, seed=0, **settings):
    return augment_images(given, ImageAugmentationConfig(**settings), np.random.default_rng(seed))


def test_images_are_as_they_were_where_nothing_is_asked_for():
    torch.testing.assert_close(changed(images()), images())


@pytest.mark.parametrize(
    "settings",
    [
        {"rotation_deg": 20.0},
        {"shift": 0.2},
        {"scaling": 0.2},
        {"contrast": 0.3},
        {"noise": 0.1},
        {"flip_left_right": True},
    ],
)
def test_each_change_is_drawn_for_each_image_anew_and_again_by_its_seed(settings):
    same = images(1).repeat(6, 1, 1, 1)
    one = changed(same, **settings)
    torch.testing.assert_close(one, changed(same, **settings))
    assert not torch.equal(one, changed(same, seed=1, **settings))
    assert len({tuple(image.flatten().tolist()) for image in one}) > 1
    assert one.min() >= 0
    assert one.max() <= 1


def test_a_mirrored_image_is_its_mirror_and_no_other():
    given = images(8)
    for one, before in zip(changed(given, flip_left_right=True), given, strict=True):
        assert any(torch.allclose(one, way, atol=1e-6) for way in (before, before.flip(-1)))


def test_a_shift_moves_a_dot_by_less_than_its_share():
    given = torch.zeros(16, 1, 21, 21)
    given[:, :, 10, 10] = 1
    moved = changed(given, shift=0.2)
    rows = (moved.sum(dim=(1, 3)) * torch.arange(21)).sum(dim=1) / moved.sum(dim=(1, 2, 3))
    assert (rows - 10).abs().max() <= 0.2 * 21 + 1e-3
    assert (rows - 10).abs().max() > 1


def test_a_turn_keeps_distances_in_an_oblong_image():
    given = torch.zeros(12, 1, 20, 40)
    given[:, :, 10, 26] = given[:, :, 10, 14] = 1
    turned = changed(given, rotation_deg=30.0)
    across = torch.arange(40.0) - 19.5
    down = (torch.arange(20.0) - 9.5)[:, None]
    spread = ((across**2 + down**2) * turned[:, 0]).sum(dim=(1, 2)) / turned.sum(dim=(1, 2, 3))
    assert ((spread.sqrt() - 6).abs() < 0.3).all()
