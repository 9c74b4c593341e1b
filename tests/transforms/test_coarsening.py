import numpy as np
import pytest
import torch

from hemitwin.transforms.coarsening import coarsen, refine_sum


def test_coarsening_is_the_mean_of_each_block():
    volume = torch.rand(2, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    coarse, _ = coarsen(volume, np.eye(4), factor=2)
    for index in np.ndindex(2, 3, 4):
        block = volume[(slice(None), *(slice(2 * i, 2 * i + 2) for i in index))]
        torch.testing.assert_close(coarse[(slice(None), *index)], block.mean(dim=(1, 2, 3)))


def test_coarse_voxels_lie_in_the_middle_of_their_block():
    affine = np.array([[2.0, 0, 0, -7], [0, 2, 0, -3], [0, 0, 2, 5], [0, 0, 0, 1]])
    _, coarse = coarsen(torch.zeros(1, 8, 4, 4), affine, factor=4)
    centre = affine @ [1.5, 1.5, 1.5, 1.0]
    np.testing.assert_allclose(coarse @ [0, 0, 0, 1.0], centre)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_refining_keeps_the_sum_and_coarsening_undoes_its_grid(factor):
    volume = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    affine = np.diag([6.0, 6.0, 6.0, 1.0])
    fine, fine_affine = refine_sum(volume, affine, factor=factor)
    back, back_affine = coarsen(fine, fine_affine, factor=factor)
    torch.testing.assert_close(fine.sum(), volume.sum())
    torch.testing.assert_close(back * factor**3, volume)
    np.testing.assert_allclose(back_affine, affine)


def test_a_size_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple of 2"):
        coarsen(torch.zeros(1, 3, 4, 4), np.eye(4), factor=2)
