"""BIDS names: finding scans, reading labels, building the names of results."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hemitwin.pipeline.errors import UserError

__all__ = ["Case", "find_scans", "normalise_labels", "sidecar_of", "subjects_in"]

_ENTITY = re.compile(r"(?P<key>[a-zA-Z]+)-(?P<value>[a-zA-Z0-9+]+)")


@dataclass(frozen=True)
class Case:
    """One scan to work on.

    Parameters
    ----------
    subject : str
        The label with its prefix, ``sub-01``.
    name : str
        The scan's entities without suffix, ``sub-01`` or ``sub-01_ses-2_run-1``: it tells two
        scans of one subject apart and begins the name of every result.
    scan : Path
        The file; it may be missing for a subject that was asked for.
    """

    subject: str
    name: str
    scan: Path

    @property
    def session(self) -> str | None:
        """The session with its prefix (``ses-2``), or ``None``."""
        found = re.search(r"(?:^|_)(ses-[a-zA-Z0-9+]+)", self.name)
        return found.group(1) if found else None

    def folder(self, out: Path) -> Path:
        """Return this case's anatomical folder below the derivatives' folder `out`."""
        parts = [self.subject, *([self.session] if self.session else []), "anat"]
        return out.joinpath(*parts)

    def path(self, out: Path, tail: str) -> Path:
        """Return the path of a result: `tail` is what follows the case's own entities.

        Examples
        --------
        >>> case = Case("sub-01", "sub-01_ses-2", Path("x.nii.gz"))
        >>> case.path(Path("out"), "desc-lrp_relevance.nii.gz").as_posix()
        'out/sub-01/ses-2/anat/sub-01_ses-2_desc-lrp_relevance.nii.gz'
        """
        return self.folder(out) / f"{self.name}_{tail}"


def sidecar_of(volume: Path) -> Path:
    """Return the path of a volume's JSON sidecar.

    Examples
    --------
    >>> sidecar_of(Path("anat/sub-01_T1w.nii.gz")).name
    'sub-01_T1w.json'
    """
    return volume.with_name(volume.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def normalise_labels(labels: Iterable[str] | None) -> tuple[str, ...] | None:
    """Bring participant labels to the form ``sub-01``; take them with or without the prefix.

    Raises
    ------
    UserError
        A label holds anything but letters, digits and ``+`` after the prefix.

    Examples
    --------
    >>> normalise_labels(["01", "sub-02"])
    ('sub-01', 'sub-02')
    """
    if labels is None:
        return None
    normal = tuple(f"sub-{label.removeprefix('sub-')}" for label in labels)
    for label in normal:
        found = _ENTITY.fullmatch(label)
        if found is None:
            msg = (
                f"a participant label must be letters and digits, with or without 'sub-', "
                f"got {label!r}; use the names of the folders in the dataset"
            )
            raise UserError(msg)
    return tuple(dict.fromkeys(normal))


def subjects_in(folder: Path) -> tuple[str, ...]:
    """Return the names of the ``sub-*`` folders below `folder`, sorted.

    Raises
    ------
    UserError
        The folder is missing or holds no subject.
    """
    if not folder.is_dir():
        msg = f"the dataset must be a folder, got {folder}, which is not there; check the path"
        raise UserError(msg)
    subjects = tuple(sorted(path.name for path in folder.glob("sub-*") if path.is_dir()))
    if not subjects:
        msg = (
            f"the dataset must hold folders named sub-<label>, found none in {folder}; "
            f"give the folder that holds dataset_description.json"
        )
        raise UserError(msg)
    return subjects


def find_scans(
    folder: Path, *, labels: Sequence[str] | None = None, tail: str = "T1w"
) -> tuple[Case, ...]:
    """Find one modality's scans in a BIDS folder, sessions and runs apart.

    Parameters
    ----------
    folder : Path
        A BIDS dataset: ``sub-*/[ses-*/]anat``.
    labels : sequence of str, optional
        The subjects wanted, with or without ``sub-``; all by default.
    tail : str
        The end of the file's name, without its suffix. Files with a ``space-`` entity have been
        resampled already and are taken only when `tail` names the space.

    Returns
    -------
    tuple of Case
        Sorted by name. A subject without a scan is there too, with a path that is missing, so
        that the stage reports it instead of passing over it.

    Raises
    ------
    UserError
        The folder is missing or empty, or a wanted subject is not in it.
    """
    present = subjects_in(folder)
    wanted = normalise_labels(labels) or present
    unknown = [label for label in wanted if label not in present]
    if unknown:
        msg = (
            f"every participant asked for must be in {folder}, but {', '.join(unknown)} "
            f"is not; present: {', '.join(present[:8])}{' ...' if len(present) > 8 else ''}"
        )
        raise UserError(msg)
    cases: list[Case] = []
    for subject in wanted:
        scans = _scans_of(folder / subject, tail)
        cases.extend(Case(subject, name, path) for name, path in sorted(scans.items()))
        if not scans:
            missing = folder / subject / "anat" / f"{subject}_{tail}.nii.gz"
            cases.append(Case(subject, subject, missing))
    return tuple(cases)


def _scans_of(folder: Path, tail: str) -> dict[str, Path]:
    scans: dict[str, Path] = {}
    for suffix in (".nii", ".nii.gz"):
        ending = f"_{tail}{suffix}"
        for where in ("anat", "ses-*/anat"):
            for path in folder.glob(f"{where}/*{ending}"):
                name = path.name.removesuffix(ending)
                if "_space-" not in name:
                    scans[name] = path
    return scans
