"""The store of volumes at the network's grid: what is noticed, and what is never read."""

import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from hemitwin.atlases import save_volume
from hemitwin.pipeline.cohort import brains as cohort
from hemitwin.pipeline.cohort.brains import load_brain
from hemitwin.pipeline.cohort.volume_store import GridVolume, VolumeStore
from hemitwin.pipeline.stage.bids import Case, sidecar_of
from hemitwin.pipeline.stage.json_files import digest_json, read_json, write_json

SPECIFICATION = {"scan": "a", "resolution_mm": 4.0}


def grid_volume(seed=0):
    volume = torch.from_numpy(np.random.default_rng(seed).random((1, 4, 6, 5), dtype=np.float32))
    return GridVolume(volume, volume[0].numpy() > 0.5, np.diag([4.0, 4, 4, 1]), 2, 0.71)


def never():
    pytest.fail("it was stored and must not be computed again")


def same(found, made):
    assert torch.equal(found.volume, made.volume)
    np.testing.assert_array_equal(found.mask, made.mask)
    np.testing.assert_array_equal(found.affine, made.affine)
    assert (found.factor, found.native_mm3_per_mm3) == (made.factor, made.native_mm3_per_mm3)
    assert (found.volume.dtype, found.mask.dtype) == (torch.float32, np.dtype(bool))


@pytest.fixture
def prepared_case(tmp_path):
    """A prepared volume of whole numbers, so that every machine computes the same bytes."""
    path = tmp_path / "sub-01" / "anat" / "sub-01_space-a_desc-prepared_T1w.nii"
    data = np.random.default_rng(1).integers(0, 4, (8, 8, 8)).astype(np.float32)
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = -7.0
    save_volume(path, data, affine, space="MNI152NLin2009aSym")
    write_json(sidecar_of(path), {"Quality": {"native_from_template_determinant": 0.75}})
    return Case("sub-01", "sub-01", path)


@pytest.fixture
def computed(monkeypatch):
    """Count what is computed from the scans."""
    calls = []
    compute = cohort._at_resolution
    monkeypatch.setattr(
        cohort, "_at_resolution", lambda *call: (calls.append(call), compute(*call))[1]
    )
    return calls


def test_what_is_stored_comes_back_bit_for_bit_and_without_a_warning(tmp_path):
    made = grid_volume()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(VolumeStore(tmp_path).get(SPECIFICATION, lambda: made), made)
        same(VolumeStore(tmp_path).get(SPECIFICATION, never), made)


def test_volumes_are_mapped_and_hold_no_file_open(tmp_path):
    def open_files():
        return len(list(Path("/proc/self/fd").iterdir()))

    store, before = VolumeStore(tmp_path), open_files()
    kept = [store.get({"scan": n}, lambda n=n: grid_volume(n)) for n in range(20)]
    assert open_files() == before
    maps = Path("/proc/self/maps").read_text()
    assert sum("volume.npy" in line for line in maps.splitlines()) >= len(kept)


def test_writing_to_a_volume_never_reaches_the_file(tmp_path):
    store, made = VolumeStore(tmp_path), grid_volume()
    store.get(SPECIFICATION, lambda: made).volume.zero_()
    same(store.get(SPECIFICATION, never), made)


@pytest.mark.parametrize("name", ["volume.npy", "mask.npy", "entry.json"])
@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
def test_a_damaged_entry_is_made_again(tmp_path, name, damage):
    store, made = VolumeStore(tmp_path), grid_volume()
    store.get(SPECIFICATION, lambda: made)
    path = tmp_path / digest_json(SPECIFICATION) / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        whole = content[: len(content) // 2] if damage == "truncated" else content[:-40]
        path.write_bytes(whole if damage == "truncated" else whole + b"\x01" * 40)
    again = grid_volume()
    same(store.get(SPECIFICATION, lambda: again), made)
    same(store.get(SPECIFICATION, never), made)
    assert [entry.name for entry in tmp_path.iterdir()] == [digest_json(SPECIFICATION)]


def test_an_entry_under_a_foreign_name_is_not_read(tmp_path):
    store = VolumeStore(tmp_path)
    store.get(SPECIFICATION, grid_volume)
    other = {**SPECIFICATION, "resolution_mm": 8.0}
    (tmp_path / digest_json(SPECIFICATION)).rename(tmp_path / digest_json(other))
    made = grid_volume(9)
    same(store.get(other, lambda: made), made)


def test_a_folder_that_cannot_be_written_costs_memory_and_says_so(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    store, made = VolumeStore(tmp_path / "file" / "volumes"), grid_volume()
    for _ in range(2):
        same(store.get(SPECIFICATION, lambda: made), made)
    assert [record.message for record in caplog.records if "stay in memory" in record.message]
    assert len(caplog.records) == 1


_PROCESSES = """
    import os, signal, sys, time
    from pathlib import Path
    import numpy as np, torch
    from hemitwin.pipeline.cohort import volume_store

    folder = Path(sys.argv[1])
    volume = torch.from_numpy(np.random.default_rng(0).random((1, 4, 6, 5), dtype=np.float32))
    made = volume_store.GridVolume(
        volume, volume[0].numpy() > 0.5, np.diag([4.0, 4, 4, 1]), 2, 0.71
    )

    def race(start):
        os.read(start, 1)
        store = volume_store.VolumeStore(folder / "raced")
        right = [
            torch.equal(store.get({"scan": number}, lambda: made).volume, volume)
            for number in range(40)
        ]
        os._exit(0 if all(right) else 1)

    def die(half):
        def wait(_):
            os.write(half, b"h")
            time.sleep(60)
        volume_store.digest_file = wait
        volume_store.VolumeStore(folder / "killed").get({"scan": 0}, lambda: made)

    start, go = os.pipe()
    racing = [os.fork() or race(start) for _ in range(4)]
    os.write(go, b"go!!")
    codes = [os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in racing]
    heard, half = os.pipe()
    dying = os.fork() or die(half)
    os.read(heard, 1)
    os.kill(dying, signal.SIGKILL)
    os.waitpid(dying, 0)
    sys.exit(max(codes))
"""


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """Four processes that fill one store at once, and one that is killed while it writes."""
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, "-c", textwrap.dedent(_PROCESSES), str(folder)]
    subprocess.run(command, check=True, timeout=100)  # noqa: S603 (this interpreter, a fixed script)
    return folder


def test_processes_that_race_all_get_the_volume_and_one_entry_stays(walked):
    entries = {digest_json({"scan": number}) for number in range(40)}
    assert {entry.name for entry in (walked / "raced").iterdir()} == entries


def test_a_writer_that_is_killed_leaves_nothing_that_is_read(walked):
    left = list((walked / "killed").iterdir())
    assert [entry.name[:9] for entry in left] == [".partial-"]
    assert (left[0] / "volume.npy").stat().st_size > 0
    made = grid_volume(3)
    same(VolumeStore(walked / "killed").get({"scan": 0}, lambda: made), made)
    assert [entry.name for entry in (walked / "killed").iterdir()] == [digest_json({"scan": 0})]


def test_a_brain_is_computed_once_for_the_same_bytes_and_settings(
    prepared_case, computed, tmp_path
):
    store = VolumeStore(tmp_path / "store")
    plain = load_brain(prepared_case, 4.0)
    kept = [load_brain(prepared_case, 4.0, store=store) for _ in range(2)]
    assert len(computed) == 2
    for brain in kept:
        same(GridVolume(brain.volume, brain.mask, brain.affine, brain.factor, 0.75), plain)
    load_brain(prepared_case, 8.0, store=store)
    assert len(computed) == 3


def test_a_file_replaced_by_one_of_the_same_size_and_date_is_noticed(
    prepared_case, computed, tmp_path
):
    store = VolumeStore(tmp_path / "store")
    before = load_brain(prepared_case, 4.0, store=store)
    stat = prepared_case.scan.stat()
    content = bytearray(prepared_case.scan.read_bytes())
    content[-4:] = np.float32(64.0).tobytes()
    prepared_case.scan.write_bytes(content)
    os.utime(prepared_case.scan, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (prepared_case.scan.stat().st_size, prepared_case.scan.stat().st_mtime_ns) == (
        stat.st_size,
        stat.st_mtime_ns,
    )
    after = load_brain(prepared_case, 4.0, store=store)
    assert len(computed) == 2
    assert float(after.volume.max()) > float(before.volume.max())


def test_another_version_and_another_scale_of_the_subject_are_noticed(
    prepared_case, computed, tmp_path, monkeypatch
):
    store = VolumeStore(tmp_path / "store")
    load_brain(prepared_case, 4.0, store=store)
    monkeypatch.setattr(cohort, "provenance", lambda: {"packages": dict.fromkeys(_NAMES, "9")})
    load_brain(prepared_case, 4.0, store=store)
    monkeypatch.setattr(cohort, "COMPUTATION", cohort.COMPUTATION + 1)
    load_brain(prepared_case, 4.0, store=store)
    assert len(computed) == 3
    write_json(
        sidecar_of(prepared_case.scan), {"Quality": {"native_from_template_determinant": 0.5}}
    )
    assert load_brain(prepared_case, 4.0, store=store).native_mm3_per_mm3 == 0.5
    assert len(computed) == 4


_NAMES = ("hemitwin", "torch", "numpy", "nibabel")


def test_the_entry_says_what_it_is(prepared_case, tmp_path):
    load_brain(prepared_case, 4.0, store=VolumeStore(tmp_path / "store"))
    (entry,) = (tmp_path / "store").iterdir()
    header = read_json(entry / "entry.json")
    assert (header["axes"], header["mirrored"], header["factor"]) == ("RAS", False, 2)
    assert header["shape"] == [1, 4, 4, 4]
    assert header["specification"]["computation"] == cohort.COMPUTATION
    assert set(header["specification"]["versions"]) == set(_NAMES)


def test_a_new_computation_has_a_new_number(prepared_case, tmp_path):
    load_brain(prepared_case, 4.0, store=VolumeStore(tmp_path / "store"))
    (entry,) = (tmp_path / "store").iterdir()
    found = read_json(entry / "entry.json")["digests"]["volume.npy"]
    # If this fails, stored volumes of users are out of date: raise cohort.COMPUTATION, then
    # write the new digest beside the new number.
    assert {cohort.COMPUTATION: found} == {
        1: "1531ef8a4c669efd058f98e48e243cafb7843523c7f5c96f5c5a4eb6a85673ab"
    }
