"""BIDS names: finding scans, reading labels, building the names of results."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hemitwin.pipeline.stage.errors import UserError

__all__ = [
    "Alignment",
    "Case",
    "Modality",
    "Pairing",
    "entities_of",
    "find_scans",
    "nearest_subjects",
    "normalise_labels",
    "session_of",
    "sidecar_of",
    "subjects_in",
    "visible",
]

Modality = Literal["T1w", "T2w", "FLAIR"]
"""BIDS suffixes of the anatomical images that are taken."""

Alignment = Literal["native", "acpc", "similarity", "affine", "nonlinear"]
"""How a scan already lies: as scanned, on its AC-PC line, or on a template by what kind of
transform ("similarity" stands for at most nine degrees of freedom, a rigid one included)."""

Pairing = Literal["hemispheres", "brains"]
"""What will be compared: the halves of one brain, or one brain with another."""

_ENTITY = re.compile(r"(?P<key>[a-zA-Z]+)-(?P<value>[a-zA-Z0-9+]+)")
_NAME = re.compile(r"sub-[a-zA-Z0-9+]+(?:_[a-zA-Z]+-[a-zA-Z0-9+]+)*")


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
    modality : str
        Its BIDS suffix.
    alignment : str
        How it already lies.
    space : str, optional
        TemplateFlow's name of the template it lies on.
    mask : Path, optional
        The brain, in the same world; found where not given.
    transform : Path, optional
        ITK affine that maps template points to the scan's (`read_itk_affine`).
    uri : str, optional
        Where it came from, for its sidecar; the path in a raw BIDS dataset by default.
    surfaces : tuple of Path
        Its left and right mid-thickness with 32,492 vertices each, where the source has them.
    problem : str, optional
        Why it cannot be taken, where that is plain from the names.
    """

    subject: str
    name: str
    scan: Path
    modality: Modality = "T1w"
    alignment: Alignment = "native"
    space: str | None = None
    mask: Path | None = None
    transform: Path | None = None
    uri: str | None = None
    surfaces: tuple[Path, ...] = ()
    problem: str | None = None

    @property
    def session(self) -> str | None:
        """The session with its prefix (``ses-2``), or ``None``."""
        return session_of(self.name)

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


def session_of(name: str) -> str | None:
    """Return the session that a scan's name has, with its prefix, or ``None``.

    Examples
    --------
    >>> session_of("sub-01_ses-2_run-1"), session_of("sub-01")
    ('ses-2', None)
    """
    found = re.search(r"(?:^|_)(ses-[a-zA-Z0-9+]+)", name)
    return found.group(1) if found else None


def entities_of(name: str) -> dict[str, str]:
    """Take the entities of a file's name apart.

    Examples
    --------
    >>> entities_of("sub-01_run-2_desc-preproc")
    {'sub': '01', 'run': '2', 'desc': 'preproc'}
    """
    found = (_ENTITY.fullmatch(part) for part in name.split("_"))
    return {one["key"]: one["value"] for one in found if one}


def visible(paths: Iterable[Path]) -> list[Path]:
    """Sort paths, and leave out names with a leading dot: they are no data.

    Such are what macOS keeps beside a file (``._sub-01_T1w.nii.gz``) and what is not whole yet.

    Examples
    --------
    >>> [path.name for path in visible([Path("b.nii"), Path("._a.nii"), Path("a.nii")])]
    ['a.nii', 'b.nii']
    """
    return sorted(path for path in paths if not path.name.startswith("."))


def normalise_labels(
    labels: Iterable[str] | None, *, prefix: str = "sub"
) -> tuple[str, ...] | None:
    """Bring labels to the form ``sub-01``; take them with or without the prefix.

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
    normal = tuple(f"{prefix}-{label.removeprefix(f'{prefix}-')}" for label in labels)
    what = {"sub": "participant", "ses": "session"}.get(prefix, prefix)
    for label in normal:
        found = _ENTITY.fullmatch(label)
        if found is None:
            msg = (
                f"a {what} label must be letters and digits, with or without '{prefix}-', "
                f"got {label!r}; use the names of the folders in the dataset"
            )
            raise UserError(msg)
    return tuple(dict.fromkeys(normal))


def nearest_subjects(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return the names that are spelled most like one that nobody bears, nearest first.

    Examples
    --------
    >>> nearest_subjects("sub-control1", ["sub-control01", "sub-patient01"])
    ('sub-control01',)
    """
    # The prefix, which all share, would make any two alike.
    bare = {one.removeprefix("sub-"): one for one in sorted(known)}
    found = difflib.get_close_matches(name.removeprefix("sub-"), bare, cutoff=0.5)
    return tuple(bare[one] for one in found)


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
        Sorted by name. A subject without a scan is there too, with a path that is missing, and a
        scan whose name or place is wrong with its problem, so that the stage reports them instead
        of passing over them.

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
        for name, paths in sorted(scans.items()):
            problem = _problem(subject, name, paths)
            own = name == subject or name.startswith(f"{subject}_")
            case = Case(subject, name if own else f"{subject}_{name}", paths[-1], problem=problem)
            cases.append(case)
        if not scans:
            missing = folder / subject / "anat" / f"{subject}_{tail}.nii.gz"
            cases.append(Case(subject, subject, missing))
    return tuple(cases)


def _scans_of(folder: Path, tail: str) -> dict[str, list[Path]]:
    scans: dict[str, list[Path]] = {}
    for suffix in (".nii", ".nii.gz"):
        ending = f"_{tail}{suffix}"
        for where in ("anat", "ses-*/anat"):
            for path in visible(folder.glob(f"{where}/*{ending}")):
                name = path.name.removesuffix(ending)
                if "_space-" not in name:
                    scans.setdefault(name, []).append(path)
    return scans


def _problem(subject: str, name: str, paths: Sequence[Path]) -> str | None:
    """Say what is wrong with a scan's name or place, so that no result lands on another's."""
    if len(paths) > 1:
        listed = " and ".join(str(path) for path in paths)
        return f"one file must be the scan {name}, got {listed}; keep the right one"
    path = paths[0]
    if _NAME.fullmatch(name) is None:
        return f"a scan's name must be made of entities such as sub-01_ses-1_run-2, got {path}"
    folder = path.parent.parent.name if path.parent.parent.name.startswith("ses-") else None
    entities = entities_of(name)
    session = f"ses-{entities['ses']}" if "ses" in entities else None
    if f"sub-{entities['sub']}" != subject or session != folder:
        wanted = "_".join(filter(None, (subject, folder)))
        return f"a scan's name must begin as its folders do, with {wanted}, got {path}; rename it"
    return None
