"""Spec files: what `wb_view` offers to open."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from hemitwin._atomic import atomic_path
from hemitwin.atlases.workbench_files import DataFile

__all__ = ["write_spec"]

_STRUCTURES = {"L": "CortexLeft", "R": "CortexRight", None: "Invalid"}


def write_spec(path: Path, files: Sequence[DataFile]) -> None:
    """Write a Workbench spec file with relative paths.

    Parameters
    ----------
    path : Path
        Ends in `.spec`.
    files : sequence of DataFile
        All selected, in this order.

    Raises
    ------
    FileNotFoundError
        When a file is not there: Workbench would open the rest without a word.
    ValueError
        When the name does not end in `.spec`.
    """
    if path.suffix != ".spec":
        msg = f"a spec file's name must end in .spec, got {path.name}; rename it"
        raise ValueError(msg)
    root = ET.Element("CaretSpecFile", Version="1.0")
    ET.SubElement(root, "MetaData")
    for file in files:
        if not file.path.is_file():
            msg = f"every file of a spec must exist, not found: {file.path}; write it first"
            raise FileNotFoundError(msg)
        ET.SubElement(
            root,
            "DataFile",
            Structure=_STRUCTURES[file.hemisphere],
            DataFileType=file.type,
            Selected="true",
        ).text = file.relative_to(path.parent)
    ET.indent(root)
    with atomic_path(path) as temporary:
        ET.ElementTree(root).write(temporary, encoding="UTF-8", xml_declaration=True)
