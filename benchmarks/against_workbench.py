"""Is what we compute on surfaces the same as wb_command's, and how fast is it?

    python benchmarks/against_workbench.py [--repeats 3] [--fine]

On the left S1200 surfaces (both sides' for grayordinates), each from the same files to a file:

- areas in the ribbon: `label_in_ribbons` and `-label-to-volume-mapping -ribbon-constrained` on the
  2 mm grid of MNI152; Dice of the voxels with an area, share of those in both with the same one.
- fsaverage5 on fsLR: `fslr_interpolation` of its sphere, applied to its white surface, and
  `-surface-sphere-project-unproject` with `-surface-resample`; how far apart the vertices are.
- smoothing: `smooth_on_surface` and `-metric-smoothing` on noise with three blobs, without the
  medial wall; `smooth_grayordinates` and `-cifti-smoothing` on these and on noise below them.
- ribbon read: `project_through_ribbon` and `-volume-to-surface-mapping -ribbon-constrained` on
  noise smoothed over two voxels. Here and for the smoothing: the correlation.

Ours and theirs take turns, each in processes of its own; medians of the seconds on the clock, in
brackets of all cores together (`wb_command` uses all there are). The ratio is theirs over ours:
below 1 it is `wb_command` that is faster. Our imports are not counted, `wb_command`'s start is
(0.03 s). With `--fine`: only the areas in the ribbon, at 1 mm, once.
"""

import argparse
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import nibabel as nib
import numpy as np
import scipy
from nibabel.cifti2.cifti2 import Cifti2Image
from nibabel.gifti.gifti import GiftiImage
from nilearn.datasets import fetch_surf_fsaverage
from scipy import ndimage

from hemitwin.atlases import (
    Ribbon,
    Surface,
    fslr_interpolation,
    hcpmmp_regions,
    hcpmmp_surface_labels,
    label_in_ribbons,
    load_dense_scalars,
    load_fslr_surface,
    load_surface,
    project_through_ribbon,
    save_dense_scalar,
    save_metric,
    save_surface,
    save_surface_labels,
    save_volume,
    smooth_grayordinates,
    smooth_on_surface,
    surface_on_fslr,
    template_grid,
)
from hemitwin.atlases.grayordinates import load_grayordinates
from hemitwin.atlases.hcp_files import fsaverage_sphere, hcp_file
from hemitwin.transforms import load_series

PROGRAM = shutil.which("wb_command") or "wb_command"
KINDS = ("white", "midthickness", "pial")
WIDTHS_MM = (4, 8, 12)
DENSE_MM = 6
VOXELS_MM = (2, 4)
MNI_MM = {1: (182, 218, 182), 2: (91, 109, 91)}
MNI_ORIGIN = (-90, -126, -72)

Command = tuple[object, ...]
Seconds = tuple[float, float]
"""On the clock, and of all cores together."""


@dataclass(frozen=True)
class Comparison:
    """One result, made by us (`ours` writes it, too) and by `wb_command`."""

    name: str
    ours: Callable[[Path], None]
    commands: tuple[Command, ...]
    files: tuple[str, str]
    likeness: Callable[[np.ndarray, np.ndarray], str]


def main() -> None:
    arguments = parse()
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(
        f"hemitwin {version('hemitwin')}, wb_command {workbench_version()}, numpy "
        f"{np.__version__}, scipy {scipy.__version__}; {os.cpu_count()} cores, load {load}\n"
    )
    header = ("seconds", "ours (CPU)", "wb_command (CPU)", "ratio (CPU)")
    print("{:22}{:>13}{:>18}{:>16}  agreement".format(*header), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_surfaces(folder)
        if arguments.fine:
            write_grid(folder, 1)
            report(ribbon(folder, 1), folder, 1)
            return
        write_grid(folder, 2)
        write_maps(folder)
        every = (ribbon(folder, 2), sphere(folder), *smoothing(folder), *reading(folder))
        for one in every:
            report(one, folder, arguments.repeats)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--fine", action="store_true", help="the areas at 1 mm alone, once")
    return parser.parse_args()


def workbench_version() -> str:
    done = subprocess.run([PROGRAM, "-version"], check=True, capture_output=True, text=True)  # noqa: S603
    return next(line.split()[1] for line in done.stdout.splitlines() if line[:8] == "Version:")


def report(one: Comparison, folder: Path, repeats: int) -> None:
    taken: list[tuple[Seconds, Seconds]] = []
    for _ in range(repeats):
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            ours = pool.submit(timed, one.ours, folder).result()
        taken.append((ours, run(one.commands)))
    (our, our_cpu), (their, their_cpu) = np.median(np.array(taken), axis=0)
    seconds = f"{f'{our:.2f} ({our_cpu:.2f})':>13}{f'{their:.2f} ({their_cpu:.2f})':>18}"
    ratio = f"{their / our:.1f} ({their_cpu / our_cpu:.1f})"
    likeness = one.likeness(*(read(folder / name) for name in one.files))
    print(f"{one.name:22}{seconds}{ratio:>16}  {likeness}", flush=True)


def timed(work: Callable[[Path], None], folder: Path) -> Seconds:
    start, cpu = time.perf_counter(), time.process_time()
    work(folder)
    return time.perf_counter() - start, time.process_time() - cpu


def run(commands: tuple[Command, ...]) -> Seconds:
    start, cpu = time.perf_counter(), children()
    for command in commands:
        words = [PROGRAM, *map(str, command)]
        subprocess.run(words, check=True, capture_output=True)  # noqa: S603
    return time.perf_counter() - start, children() - cpu


def children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def read(path: Path) -> np.ndarray:
    if path.name.endswith(".dscalar.nii"):
        return np.asarray(Cifti2Image.from_filename(path).dataobj)[0]
    if path.name.endswith(".gii"):
        return np.asarray(GiftiImage.from_filename(path).darrays[0].data)
    return np.asarray(nib.nifti1.Nifti1Image.from_filename(path).dataobj)


def write_surfaces(folder: Path) -> None:
    for kind in KINDS:
        save_surface(folder / f"{kind}.surf.gii", load_fslr_surface("L", kind))
    save_surface(folder / "right.surf.gii", load_fslr_surface("R"))
    labels = hcpmmp_surface_labels("L")
    save_surface_labels(folder / "areas.label.gii", labels, "L", regions=hcpmmp_regions())
    average = fetch_surf_fsaverage("fsaverage5")
    for kind in ("sphere", "white"):
        points, faces = (
            one.data for one in GiftiImage.from_filename(average[f"{kind}_left"]).darrays
        )
        own = Surface(points.astype(np.float32), faces.astype(np.int32), "L", kind)
        save_surface(folder / f"own_{kind}.surf.gii", own)


def write_grid(folder: Path, spacing_mm: int) -> None:
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = MNI_ORIGIN
    save_volume(folder / "grid.nii.gz", np.zeros(MNI_MM[spacing_mm], np.float32), affine)


def write_maps(folder: Path) -> None:
    places = load_grayordinates()
    maps = {side: blobs(load_fslr_surface(side)) for side in "LR"}
    save_metric(folder / "in.shape.gii", maps["L"], "L", name="map")
    save_metric(folder / "roi.shape.gii", cortex().astype(float), "L", name="roi")
    deep = np.random.default_rng(1).normal(size=len(places.voxels))
    dense = np.concatenate([*(maps[side][places.vertices(side)] for side in "LR"), deep])
    save_dense_scalar(folder / "in.dscalar.nii", dense, name="map")
    for spacing_mm in VOXELS_MM:
        shape, affine = template_grid(float(spacing_mm))
        noise = np.random.default_rng(0).normal(size=shape)
        noise = ndimage.gaussian_filter(noise, 2.0)
        save_volume(folder / f"in_{spacing_mm}.nii.gz", noise, affine)


def blobs(surface: Surface) -> np.ndarray:
    """Noise with three blobs of 15 mm."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=len(surface.vertices))
    for vertex in rng.choice(len(surface.vertices), 3):
        squares = ((surface.vertices - surface.vertices[vertex]) ** 2).sum(axis=1)
        values += 3 * np.exp(-squares / 2 / 15**2)
    return values


def cortex() -> np.ndarray:
    """Return which vertices of the left side are not of the medial wall."""
    places = load_grayordinates()
    inside = np.zeros(places.n_vertices, dtype=bool)
    inside[places.vertices("L")] = True
    return inside


def ribbon(folder: Path, spacing_mm: int) -> Comparison:
    white, middle, pial = (folder / f"{kind}.surf.gii" for kind in KINDS)
    inputs = (folder / "areas.label.gii", middle, folder / "grid.nii.gz")
    command = ("-label-to-volume-mapping", *inputs, folder / "theirs.nii.gz")
    command += ("-ribbon-constrained", white, pial)
    files = ("ours.nii.gz", "theirs.nii.gz")
    name = f"areas in ribbon, {spacing_mm} mm"
    return Comparison(name, label_ribbon, (command,), files, same_areas)


def label_ribbon(folder: Path) -> None:
    white, pial = own_surfaces(folder)
    labels = read(folder / "areas.label.gii").astype(np.int32)
    volumes, affine = load_series(folder / "grid.nii.gz")
    shape = volumes.shape[1:]
    points = np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    found = label_in_ribbons(points, [Ribbon.between(white, pial, labels)]).reshape(shape)
    save_volume(folder / "ours.nii.gz", found, affine)


def own_surfaces(folder: Path) -> tuple[Surface, Surface]:
    white, pial = (
        load_surface(folder / f"{kind}.surf.gii", "L", kind=kind) for kind in ("white", "pial")
    )
    return white, pial


def same_areas(ours: np.ndarray, theirs: np.ndarray) -> str:
    both = (ours > 0) & (theirs > 0)
    dice = 2 * both.sum() / ((ours > 0).sum() + (theirs > 0).sum())
    return f"Dice {dice:.3f}, same area {(ours == theirs)[both].mean():.3f}"


def sphere(folder: Path) -> Comparison:
    own, white, moved = (folder / f"{n}.surf.gii" for n in ("own_sphere", "own_white", "moved"))
    fsaverage, fslr = (folder / f"{name}.surf.gii" for name in ("fsaverage", "fslr"))
    vertices, faces, there = fsaverage_sphere("L")
    save_surface(fsaverage, Surface(vertices, faces, "L", "sphere"))
    save_surface(fslr, Surface(there, faces, "L", "sphere"))
    standard = hcp_file("S1200.L.sphere.32k_fs_LR.surf.gii")
    out = folder / "theirs.surf.gii"
    commands = (
        ("-surface-sphere-project-unproject", own, fsaverage, fslr, moved),
        ("-surface-resample", white, moved, standard, "BARYCENTRIC", out),
    )
    files = ("ours.surf.gii", "theirs.surf.gii")
    return Comparison("fsaverage5 on fsLR", resample_white, commands, files, distances)


def resample_white(folder: Path) -> None:
    own = load_surface(folder / "own_sphere.surf.gii", "L", kind="sphere")
    white = load_surface(folder / "own_white.surf.gii", "L", kind="white")
    points = fslr_interpolation(own)(white.vertices.astype(float))
    save_surface(folder / "ours.surf.gii", surface_on_fslr(points, "L", "white"))


def distances(ours: np.ndarray, theirs: np.ndarray) -> str:
    apart = np.linalg.norm(ours.astype(float) - theirs, axis=1)
    return f"median {np.median(apart):.5f} mm, 99.9 % {np.quantile(apart, 0.999):.5f}"


def smoothing(folder: Path) -> list[Comparison]:
    mesh, source, roi = (
        folder / n for n in ("midthickness.surf.gii", "in.shape.gii", "roi.shape.gii")
    )
    files, found = ("ours.shape.gii", "theirs.shape.gii"), []
    for width in WIDTHS_MM:
        command = ("-metric-smoothing", mesh, source, width, folder / files[1], "-fwhm")
        command += ("-roi", roi)
        ours = partial(smooth_metric, width_mm=width)
        found.append(Comparison(f"surface, {width} mm", ours, (command,), files, inside_alike))
    dense = ("ours.dscalar.nii", "theirs.dscalar.nii")
    command = ("-cifti-smoothing", folder / "in.dscalar.nii", DENSE_MM, DENSE_MM, "COLUMN")
    command += (folder / dense[1], "-fwhm", "-left-surface", mesh)
    command += ("-right-surface", folder / "right.surf.gii")
    name = f"grayordinates, {DENSE_MM} mm"
    return [*found, Comparison(name, smooth_dense, (command,), dense, dense_alike)]


def smooth_metric(folder: Path, width_mm: float) -> None:
    mesh = load_surface(folder / "midthickness.surf.gii", "L")
    values, inside = (read(folder / f"{name}.shape.gii") for name in ("in", "roi"))
    found = smooth_on_surface(values, mesh, width_mm, inside > 0)
    save_metric(folder / "ours.shape.gii", found, "L", name="map")


def inside_alike(ours: np.ndarray, theirs: np.ndarray) -> str:
    inside = cortex()
    return f"correlation {correlation(ours[inside], theirs[inside]):.5f}"


def smooth_dense(folder: Path) -> None:
    meshes = {
        side: load_surface(folder / f"{name}.surf.gii", side)
        for side, name in (("L", "midthickness"), ("R", "right"))
    }
    (values,) = load_dense_scalars(folder / "in.dscalar.nii")
    found = smooth_grayordinates(values, DENSE_MM, meshes)
    save_dense_scalar(folder / "ours.dscalar.nii", found, name="map")


def dense_alike(ours: np.ndarray, theirs: np.ndarray) -> str:
    deep = load_grayordinates().subcortex
    above = np.ones(len(ours), dtype=bool)
    above[deep] = False
    cortical, below = (correlation(ours[rows], theirs[rows]) for rows in (above, deep))
    return f"correlation {cortical:.5f}, below {below:.5f}"


def reading(folder: Path) -> list[Comparison]:
    white, middle, pial = (folder / f"{kind}.surf.gii" for kind in KINDS)
    files, found = ("ours.shape.gii", "theirs.shape.gii"), []
    for spacing_mm in VOXELS_MM:
        source = folder / f"in_{spacing_mm}.nii.gz"
        command = ("-volume-to-surface-mapping", source, middle, folder / files[1])
        command += ("-ribbon-constrained", white, pial)
        ours = partial(read_ribbon, spacing_mm=spacing_mm)
        name = f"ribbon read, {spacing_mm} mm"
        found.append(Comparison(name, ours, (command,), files, all_alike))
    return found


def read_ribbon(folder: Path, spacing_mm: int) -> None:
    (volume,), affine = load_series(folder / f"in_{spacing_mm}.nii.gz")
    found = project_through_ribbon(volume, affine, *own_surfaces(folder))
    save_metric(folder / "ours.shape.gii", found, "L", name="map")


def all_alike(ours: np.ndarray, theirs: np.ndarray) -> str:
    return f"correlation {correlation(ours, theirs):.5f}"


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1])


if __name__ == "__main__":
    main()
