"""Pictures of what Workbench shows; nilearn's where Workbench is absent."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from nilearn.plotting import plot_surf_stat_map

from hemitwin._atomic import atomic_path

__all__ = ["find_workbench", "render_scenes", "render_surfaces"]

_SIZE = ("1200", "900")
_SECONDS = 120


def render_scenes(scene: Path, names: Sequence[str], program: str) -> tuple[Path, ...]:
    """Draw the scenes of a file through ``wb_command``.

    Parameters
    ----------
    scene : Path
        The scene file; the pictures are written beside it.
    names : sequence of str
        Of the scenes.
    program : str
        ``wb_command``.

    Returns
    -------
    tuple of Path
        One PNG a scene.

    Raises
    ------
    RuntimeError
        Workbench fails, or says that a file is missing: it then ends with 0 all the same.
    """
    return tuple(_render(scene, name, program) for name in names)


def _render(scene: Path, name: str, program: str) -> Path:
    word = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    picture = scene.with_name(f"{scene.stem}_{word}.png")
    with atomic_path(picture) as temporary:
        done = subprocess.run(  # noqa: S603 (the program that was found on the path)
            [program, "-show-scene", str(scene), name, str(temporary), *_SIZE, "-logging", "OFF"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
        told = done.stdout + done.stderr
        if done.returncode or "ERRORS loading scene" in told or not temporary.stat().st_size:
            msg = f"wb_command must draw the scene {name!r} of {scene}, got: {told.strip()[:500]}"
            raise RuntimeError(msg)
    return picture


def find_workbench() -> str | None:
    """Find ``wb_command`` on the path."""
    return shutil.which("wb_command")


def render_surfaces(picture: Path, sides: Sequence[tuple[Path, Path]], title: str) -> Path:
    """Draw both hemispheres, lateral and medial, by nilearn.

    Parameters
    ----------
    picture : Path
        The PNG file.
    sides : two of (Path, Path)
        Surface and metric of the left and of the right hemisphere.
    title : str
        Above the picture.

    Returns
    -------
    Path
        The picture.
    """
    figure, axes = plt.subplots(2, 2, figsize=(8, 7), subplot_kw={"projection": "3d"})
    for column, (side, (surface, metric)) in enumerate(zip(("left", "right"), sides, strict=True)):
        for row, view in enumerate(("lateral", "medial")):
            plot_surf_stat_map(
                str(surface),
                str(metric),
                hemi=side,
                view=view,
                colorbar=False,
                axes=axes[row, column],
                figure=figure,
            )
    figure.suptitle(title)
    with atomic_path(picture) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    plt.close(figure)
    return picture
