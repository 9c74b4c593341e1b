"""A folder of slices in the forms that other tools load: arrays, tables with images, classes."""

import json
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from PIL import Image

from hemitwin._atomic import partial_name, sweep_leftovers
from hemitwin.pipeline.slices.config import Export, SliceConfig
from hemitwin.pipeline.slices.picture_size import PictureSize
from hemitwin.pipeline.slices.source import Pixels
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import write_text

__all__ = ["exports_of", "require_exportable", "write_exports"]

_FOLDS = {"train": "train", "validation": "val", "test": "test"}
"""MedMNIST's names of the folds that are exported."""

_HEALTHY = "none"
_ROWS = 256  # of a parquet file that are held at once


def exports_of(folder: Path) -> Path:
    """Return where a folder's exports lie: beside it, so that its own loaders see none of them.

    Examples
    --------
    >>> exports_of(Path("data/slices")).as_posix()
    'data/slices.exports'
    """
    whole = folder.resolve() if folder.name in {"", "..", "."} else folder
    return whole.with_name(f"{whole.name}.exports")


def require_exportable(config: SliceConfig, size: PictureSize) -> None:
    """Refuse what cannot be exported, before anything is cut.

    Raises
    ------
    UserError
        Arrays are asked for of pictures of several sizes, or parquet without its package.
    """
    shapes = {size.shapes[plane] for plane in config.planes}
    if "npz" in config.export and len(shapes) > 1:
        told = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(shapes))
        msg = f"the export npz needs pictures of one size, got {told}; state --pixels"
        raise UserError(msg)
    if "parquet" in config.export and find_spec("datasets") is None:
        msg = (
            "the export parquet needs the package datasets, which is not installed; "
            "pip install 'hemitwin[datasets]'"
        )
        raise UserError(msg)


def write_exports(folder: Path, table: pd.DataFrame, kinds: Collection[Export]) -> None:
    """Write a folder's exports anew, and those that are there already.

    - ``npz/slices.npz`` has MedMNIST's keys: ``train_images`` (n, rows, columns) uint8 and
      ``train_labels`` (n, 1) uint8, likewise ``val_`` and ``test_``; and besides them ``classes``,
      the labels' names, ``train_subjects`` and ``train_position_mm``.
    - ``parquet/train.parquet``, ``validation.parquet``, ``test.parquet`` have the table's columns,
      and the pictures themselves as Hugging Face's images: ``image``, or ``left`` and ``right``,
      and ``mask``.
    - ``classes/<fold>/<label>/*.png`` is what loaders of class folders expect.
    - ``symbrain/<fold>/*.png`` with a ``metadata.jsonl`` has SymBrain's columns: ``image``, turned
      so that the midline lies level, and ``line``, its two ends as JSON. Axial and coronal slices.

    In arrays, classes and SymBrain's layout a pair of halves is put together: the left half, and
    the right one turned back beside it.

    Parameters
    ----------
    folder : Path
        The folder of slices.
    table : DataFrame
        All of its rows.
    kinds : collection of str
        What is asked for.
    """
    root = exports_of(folder)
    there = {kind for kind in get_args(Export) if (root / kind).is_dir()}
    for kind in sorted({*kinds, *there}):
        sweep_leftovers(root)
        beside = root / partial_name(kind)
        try:
            beside.mkdir(parents=True)
            _WRITERS[kind](folder, table, beside)
            shutil.rmtree(root / kind, ignore_errors=True)
            beside.replace(root / kind)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _rows(table: pd.DataFrame, fold: str) -> list[dict[str, object]]:
    """Return a fold's rows; what is missing is None."""
    rows = table[table["split"] == fold]
    whole = rows.astype(object).where(rows.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in whole.to_dict("records")]


def _picture(folder: Path, row: Mapping[str, object]) -> Pixels:
    """Read a row's picture; the halves of a pair are put together."""
    fold = folder / str(row["split"])
    if "file_name" in row:
        return _read(fold / str(row["file_name"]))
    left, right = (_read(fold / str(row[f"{side}_file_name"])) for side in ("left", "right"))
    return np.hstack([left, right[:, ::-1]])


def _read(path: Path) -> Pixels:
    with Image.open(path) as picture:
        return np.asarray(picture)


def _stem(row: Mapping[str, object]) -> str:
    """Name a row's picture; of a pair after the half that differs from the others'."""
    names = [
        str(row[name])
        for name in ("file_name", "left_file_name", "right_file_name")
        if name in row
    ]
    stem = Path(max(names, key=len)).stem
    return re.sub("_hemi-[LR]", "", stem)


def _classes_in(table: pd.DataFrame) -> list[str]:
    labels = sorted(set(map(str, table["label"])))
    return sorted(labels, key=lambda label: label != _HEALTHY)


def _write_npz(folder: Path, table: pd.DataFrame, out: Path) -> None:
    classes = _classes_in(table)
    arrays: dict[str, np.ndarray] = {"classes": np.array(classes)}
    shape = _picture(folder, _rows(table, str(table["split"].iloc[0]))[0]).shape
    for fold, called in _FOLDS.items():
        rows = _rows(table, fold)
        images = np.zeros((len(rows), *shape), dtype=np.uint8)
        for number, row in enumerate(rows):
            images[number] = _eight_bits(_picture(folder, row))
        numbers = [[classes.index(str(row["label"]))] for row in rows]
        arrays[f"{called}_images"] = images
        arrays[f"{called}_labels"] = np.array(numbers, dtype=np.uint8).reshape(-1, 1)
        arrays[f"{called}_subjects"] = np.array([str(row["subject"]) for row in rows], dtype=str)
        arrays[f"{called}_position_mm"] = np.array(
            [row["position_mm"] for row in rows], dtype=float
        )
    np.savez_compressed(out / "slices.npz", allow_pickle=False, **arrays)


def _eight_bits(picture: Pixels) -> Pixels:
    if picture.dtype == np.uint8:
        return picture
    greys = 1 + np.rint((picture.astype(np.float64) - 1) / 65534 * 254)
    return np.where(picture > 0, greys, 0).astype(np.uint8)


def _write_classes(folder: Path, table: pd.DataFrame, out: Path) -> None:
    for fold in _FOLDS:
        for row in _rows(table, fold):
            name = re.sub(r"[^\w+.-]+", "_", str(row["label"]))
            path = out / fold / name / f"{_stem(row)}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            if "file_name" in row:
                shutil.copyfile(folder / fold / str(row["file_name"]), path)
            else:
                Image.fromarray(_picture(folder, row)).save(path)


def _write_symbrain(folder: Path, table: pd.DataFrame, out: Path) -> None:
    dropped = ("file_name", "left_file_name", "right_file_name", "mask_file_name", "midline_px")
    for fold in _FOLDS:
        lines = []
        for row in _rows(table[table["plane"] != "sagittal"], fold):
            picture = np.rot90(_picture(folder, row))  # the right side on top
            name = f"{_stem(row)}.png"
            (out / fold).mkdir(exist_ok=True)
            Image.fromarray(np.ascontiguousarray(picture)).save(out / fold / name)
            rows, columns = picture.shape
            ends = [{"x": 0, "y": rows / 2 - 0.5}, {"x": columns - 1, "y": rows / 2 - 0.5}]
            rest = {key: value for key, value in row.items() if key not in dropped}
            lines.append(json.dumps({"file_name": name, "line": json.dumps(ends), **rest}) + "\n")
        if lines:
            write_text(out / fold / "metadata.jsonl", "".join(lines))


def _write_parquet(folder: Path, table: pd.DataFrame, out: Path) -> None:
    import datasets  # noqa: PLC0415 (an extra brings both)
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    files = [str(name) for name in table if str(name).endswith("file_name")]
    kinds = {"i": "int64", "f": "float64"}
    columns = {
        str(name): datasets.Value(kinds.get(table[name].dtype.kind, "string"))
        for name in table
        if name not in files
    }
    pictures = {name: _image_column(name) for name in files}
    images = {column: datasets.Image() for column in pictures.values()}
    schema = datasets.Features({**images, **columns}).arrow_schema
    for fold in _FOLDS:
        rows = _rows(table, fold)
        if not rows:
            continue
        with parquet.ParquetWriter(out / f"{fold}.parquet", schema) as writer:
            for part in _chunks(rows):
                filled = [_with_images(folder / fold, row, pictures) for row in part]
                writer.write_table(pa.Table.from_pylist(filled, schema=schema))


def _image_column(name: str) -> str:
    """Name the column of images as Hugging Face does: file_name is the image."""
    return name.removesuffix("file_name").removesuffix("_") or "image"


def _chunks(rows: list[dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    for start in range(0, len(rows), _ROWS):
        yield rows[start : start + _ROWS]


def _with_images(
    fold: Path, row: Mapping[str, object], pictures: Mapping[str, str]
) -> dict[str, object]:
    filled: dict[str, object] = {key: value for key, value in row.items() if key not in pictures}
    for name, column in pictures.items():
        file = row[name]
        if file is None:
            filled[column] = None
        else:
            path = fold / str(file)
            filled[column] = {"bytes": path.read_bytes(), "path": path.name}
    return filled


_WRITERS: Mapping[str, Callable[[Path, pd.DataFrame, Path], None]] = {
    "npz": _write_npz,
    "parquet": _write_parquet,
    "classes": _write_classes,
    "symbrain": _write_symbrain,
}
