"""Messages of readers are text in one line, whatever bytes a file holds."""

import gzip
import re

import pytest

from hemitwin._error_text import error_text
from hemitwin.atlases import load_atlas, load_surface, read_dseg_table
from hemitwin.models import load_weights
from hemitwin.pipeline.stage.errors import UserError, reading
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.transforms import load_labels, load_scan, load_series

BYTES = bytes(range(256)) * 8

READERS = {
    "scan.nii.gz": load_scan,
    "scan.nii": load_scan,
    "scan.mgz": load_scan,
    "map.nii.gz": load_series,
    "labels.nii.gz": load_labels,
    "lh.surf.gii": lambda path: load_surface(path, "L", kind="pial"),
    "atlas.dlabel.nii": lambda path: load_atlas([path], read_labels=load_labels),
    "dseg.tsv": read_dseg_table,
    "model.safetensors": load_weights,
    "run.json": read_json,
}


@pytest.mark.parametrize("packed", [False, True], ids=["as it is", "packed"])
@pytest.mark.parametrize("name", READERS)
def test_no_message_prints_bytes(tmp_path, name, packed):
    path = tmp_path / name
    path.write_bytes(gzip.compress(BYTES) if packed else BYTES)
    with pytest.raises(ValueError, match=re.escape(name)) as raised:
        READERS[name](path)
    told = str(raised.value)
    assert not re.search(r"""\bb['"]|\\x[0-9a-f]{2}|[^\x20-\x7e\ufffd]""", told), told
    assert ";" in told


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            gzip.BadGzipFile("Not a gzipped file (b'\\x01 \\'')"),
            "Not a gzipped file (other bytes)",
        ),
        (ValueError("got b\"'\" and\n  b'2'"), "got other bytes and other bytes"),
        (ValueError("verb 'x' and \x00\x1b[31m"), "verb 'x' and \ufffd\ufffd[31m"),
        (IndexError(), "IndexError"),
        (OSError(2, "No such file or directory", "a"), "No such file or directory"),
        (ValueError("x" * 1000), "x" * 300 + " ..."),
    ],
)
def test_an_error_is_told_in_one_short_line(error, text):
    assert error_text(error) == text


def test_what_is_said_already_is_not_said_again(tmp_path):
    with pytest.raises(UserError, match=r"^all is said$"), reading(tmp_path, "again"):
        raise UserError("all is said")  # noqa: EM101 (no message of ours)
    with pytest.raises(PermissionError), reading(tmp_path, "again"):
        raise PermissionError(13, "Permission denied", "a")
    missing = tmp_path / "a"
    told = r"must be there, but it is not; train again"
    with pytest.raises(UserError, match=told), reading(missing, "train again"):
        missing.read_text()
