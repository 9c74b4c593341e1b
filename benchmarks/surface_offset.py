"""How far do the group's surfaces lie from the template's cortex, and what does the shift mend?

    python benchmarks/surface_offset.py [--write hemitwin/atlases/data/fslr_offset.npz]

The S1200 surfaces lie in MNI152NLin6Asym, the template is ICBM 2009a symmetric. An image of the
tissue between and below the surfaces is registered to the template's grey and white matter: once
by an affine map (fitted at the vertices), once by diffeomorphic Demons (Vercauteren et al. 2009,
doi:10.1016/j.neuroimage.2008.10.040) whose field is smoothed by a Gaussian. For each: the share of
midthickness vertices (medial wall left out) in grey matter above 0.5, mean grey matter there, mean
white matter 1.5 mm below the white surface, how far vertices move, and the Jacobian. The field of
the chosen width, on a coarse grid, is what `load_fslr_surface(..., space=TEMPLATE_SPACE)` applies.
Then, for each subcortical structure, the template's mean grey matter in its voxels as they lie,
and moved along with the cortex, which they are not (`template_from_fslr_volume`).
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk  # noqa: N813  # the name its own documentation uses
from scipy import ndimage, optimize
from scipy.spatial import KDTree

from hemitwin.atlases import (
    Surface,
    hcpmmp_surface_labels,
    load_fslr_surface,
    subcortex_centres,
    template_from_fslr,
    template_grid,
    template_on_grid,
)
from hemitwin.atlases.grayordinates import load_grayordinates
from hemitwin.atlases.world import sample_at

WIDTHS_MM = (8.0, 6.0, 5.0, 4.0)
CHOSEN_MM = 5.0
WORKING_MM = 2.0
COARSE_MM = 4.0
STEP_MM = 0.05  # of what is stored
GREY = 0.6  # of the white matter's intensity
REACH_MM = 6.0
DEPTH_MM = 1.5
ITERATIONS = 60

Points = np.ndarray
Move = Callable[[Points], Points]


def main() -> None:
    arguments = parse()
    grid = template_grid(WORKING_MM)
    surfaces = cortex()
    rows = [judge("none", surfaces, lambda points: points)]
    rows.append(judge("affine", surfaces, fit_affine(surfaces)))
    field = np.zeros(0)
    for width in WIDTHS_MM:
        found = register(width)
        rows.append(judge(f"field, {width:g} mm", surfaces, mover(found, grid[1]), found))
        if width == CHOSEN_MM:
            field = found
    coarse, affine = thin_out(field, grid[1])
    rows.append(judge(f"  stored at {COARSE_MM:g} mm", surfaces, mover(coarse, affine)))
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    print(f"\n{structures().round(3).to_string(index=False)}")
    if arguments.write is not None:
        steps = np.round(coarse / STEP_MM).astype(np.int8)
        np.savez_compressed(arguments.write, steps=steps, step_mm=STEP_MM, affine=affine)
        print(f"{arguments.write}: {arguments.write.stat().st_size} bytes")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, help="where the field is kept")
    return parser.parse_args()


def structures() -> pd.DataFrame:
    """Hold the subcortical structures against the template's grey matter, moved along and not."""
    shape, affine = template_grid(1.0)
    grey = template_on_grid(shape, affine, kind="gm")
    as_they_lie = subcortex_centres()
    moved = template_from_fslr(as_they_lie).astype(float)
    rows = []
    for name, places in load_grayordinates().structures:
        one, other = (sample_at(grey, affine, here[places]) for here in (as_they_lie, moved))
        rows.append({"structure": name, "grey as it lies": one.mean(), "moved": other.mean()})
    return pd.DataFrame(rows)


def cortex() -> dict[str, Points]:
    """Return the vertices of both sides, without the medial wall, and points below them."""
    found = {
        kind: np.concatenate(
            [load_fslr_surface(s, kind).vertices[hcpmmp_surface_labels(s) > 0] for s in "LR"]
        ).astype(float)
        for kind in ("white", "midthickness", "pial")
    }
    normal = found["pial"] - found["white"]
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    return {**found, "below": found["white"] - DEPTH_MM * normal}


def judge(
    name: str, surfaces: dict[str, Points], move: Move, field: np.ndarray | None = None
) -> dict[str, object]:
    shape, affine = template_grid(1.0)
    grey, white = (template_on_grid(shape, affine, kind=kind) for kind in ("gm", "wm"))
    middle = move(surfaces["midthickness"])
    there = sample_at(grey, affine, middle)
    moved = np.linalg.norm(middle - surfaces["midthickness"], axis=1)
    jacobian = np.array([1.0]) if field is None else jacobian_of(field)
    return {
        "map": name,
        "vertices in grey matter": float((there > 0.5).mean()),
        "grey matter": float(there.mean()),
        "white matter below": float(sample_at(white, affine, move(surfaces["below"])).mean()),
        "median mm": float(np.median(moved)),
        "95 % mm": float(np.percentile(moved, 95)),
        "largest mm": float(moved.max()),
        "least Jacobian": float(jacobian.min()),
        "largest Jacobian": float(jacobian.max()),
    }


def fit_affine(surfaces: dict[str, Points]) -> Move:
    shape, affine = template_grid(1.0)
    grey, white = (template_on_grid(shape, affine, kind=kind) for kind in ("gm", "wm"))

    def cost(values: np.ndarray) -> float:
        move = affine_move(values)
        there = sample_at(grey, affine, move(surfaces["midthickness"])).mean()
        below = sample_at(white, affine, move(surfaces["below"])).mean()
        return -float(there + below)

    options = {"xtol": 0.02, "ftol": 1e-5, "maxiter": 6}
    return affine_move(optimize.minimize(cost, np.zeros(12), method="Powell", options=options).x)


def affine_move(values: np.ndarray) -> Move:
    linear = np.eye(3) + values[3:].reshape(3, 3) / 100
    return lambda points: points @ linear.T + values[:3]


def register(width_mm: float) -> np.ndarray:
    """Return where the surfaces' points belong in the template, as shifts in mm on the grid."""
    shape, affine = template_grid(WORKING_MM)
    grey, white = tissue_of_surfaces(shape, affine)
    near = ndimage.distance_transform_edt(grey + white < 0.5, sampling=WORKING_MM) < REACH_MM
    template = [template_on_grid(shape, affine, kind=kind) for kind in ("gm", "wm")]
    method = sitk.DiffeomorphicDemonsRegistrationFilter()
    method.SetNumberOfThreads(1)
    method.SetNumberOfWorkUnits(1)
    method.SetNumberOfIterations(ITERATIONS)
    method.SetStandardDeviations(width_mm / WORKING_MM)
    method.SmoothUpdateFieldOn()
    method.SetUpdateFieldStandardDeviations(1.0)
    method.SetMaximumUpdateStepLength(0.5)
    surfaces = image(np.clip(white + GREY * grey, 0, 1) * near, affine)
    field = method.Execute(surfaces, image((template[1] + GREY * template[0]) * near, affine))
    found: np.ndarray = sitk.GetArrayFromImage(field).transpose(2, 1, 0, 3)
    return found


def tissue_of_surfaces(
    shape: tuple[int, int, int], affine: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw what lies between the surfaces, and what lies below, with soft edges."""
    points = np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    grey, white = np.zeros(len(points)), np.zeros(len(points))
    for side, here in (("L", points[:, 0] < 0), ("R", points[:, 0] > 0)):
        inner, middle, outer = (
            load_fslr_surface(side, kind) for kind in ("white", "midthickness", "pial")
        )
        half = np.linalg.norm(outer.vertices - inner.vertices, axis=1) / 2
        nearest = KDTree(middle.vertices).query(points[here])[1]
        away = points[here] - middle.vertices[nearest]
        height = (away * outward(middle)[nearest]).sum(1)  # above the middle of the cortex
        white[here] = 1 / (1 + np.exp(2 * (height + half[nearest])))
        grey[here] = 1 / (1 + np.exp(2 * (height - half[nearest]))) - white[here]
    return grey.reshape(shape), white.reshape(shape)


def outward(surface: Surface) -> np.ndarray:
    """Return the normal of every vertex: the mean of its triangles', by their areas."""
    a, b, c = (surface.vertices[surface.faces[:, corner]].astype(float) for corner in range(3))
    across = np.cross(b - a, c - a)
    total = np.zeros(surface.vertices.shape)
    for corner in range(3):
        np.add.at(total, surface.faces[:, corner], across)
    normals: np.ndarray = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-9)
    return normals


def image(values: np.ndarray, affine: np.ndarray) -> sitk.Image:
    found = sitk.GetImageFromArray(np.ascontiguousarray(values.astype(np.float32).T))
    found.SetSpacing([WORKING_MM] * 3)
    found.SetOrigin(affine[:3, 3].tolist())  # RAS+ throughout: ITK's LPS is a name
    return found


def mover(field: np.ndarray, affine: np.ndarray) -> Move:
    axes = [np.ascontiguousarray(field[..., axis]) for axis in range(3)]
    return lambda points: (
        points + np.stack([sample_at(one, affine, points) for one in axes], axis=1)
    )


def thin_out(field: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep means over blocks: the field is smooth."""
    step = round(COARSE_MM / WORKING_MM)
    x, y, z = (size // step for size in field.shape[:3])
    coarse = field.reshape(x, step, y, step, z, step, 3).mean(axis=(1, 3, 5))
    scaled = affine.copy()
    scaled[:3, :3] *= step
    scaled[:3, 3] += (step - 1) / 2 * WORKING_MM
    return (np.round(coarse / STEP_MM) * STEP_MM).astype(np.float32), scaled


def jacobian_of(field: np.ndarray) -> np.ndarray:
    slopes = np.stack(np.gradient(field, WORKING_MM, axis=(0, 1, 2)), axis=-1)
    determinants: np.ndarray = np.linalg.det(slopes + np.eye(3))
    return determinants


if __name__ == "__main__":
    main()
