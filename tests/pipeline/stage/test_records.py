import json
import logging
import os
import shutil

import pytest

from hemitwin.pipeline.stage import records
from hemitwin.pipeline.stage.json_files import digest_file, write_json
from hemitwin.pipeline.stage.records import Record, content_digest, read_product, recorded_inputs


class _Copy:
    """A stage that copies one file."""

    def __init__(self, folder, *, computation=1, settings=None):
        self.source, self.product = folder / "in" / "a.txt", folder / "out" / "b.nii"
        self.sidecar = folder / "out" / "b.json"
        self.record = Record(
            "copy",
            computation=computation,
            inputs={"source": self.source},
            settings={"case": (1, "x")} if settings is None else settings,
        )

    def run(self):
        """Return whether it was there."""
        if self.record.find(self.sidecar) is not None:
            return True
        self.record.begin(self.sidecar)
        self.product.write_bytes(self.source.read_bytes())
        self.record.write(self.sidecar, {"Description": "a copy"}, [self.product])
        return False


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("one")
    assert not _Copy(tmp_path).run()
    return tmp_path


def test_done_work_is_recognised(folder):
    assert _Copy(folder).run()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: (folder / "in" / "a.txt").write_text("two"), "made from another source"),
        (lambda folder: (folder / "out" / "b.nii").write_text("two"), "b.nii is not the file"),
        (lambda folder: (folder / "out" / "b.nii").unlink(), "b.nii is not there"),
        (lambda folder: (folder / "out" / "b.json").write_text("{"), ""),
        (lambda folder: (folder / "out" / "b.json").unlink(), ""),
    ],
    ids=["source", "product", "no product", "damaged sidecar", "no sidecar"],
)
def test_a_product_is_made_again_when_what_it_is_made_of_changed(folder, change, reason, caplog):
    change(folder)
    with caplog.at_level(logging.INFO, logger="hemitwin"):
        assert not _Copy(folder).run()
    assert reason in caplog.text
    assert _Copy(folder).run()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"computation": 2}, "in another way now"),
        ({"settings": {"case": (1, "y")}}, "other settings: case"),
        ({"settings": {"case": (1, "x"), "more": 0}}, "other settings: more"),
    ],
)
def test_a_product_is_made_again_when_it_would_be_another(folder, changed, reason, caplog):
    with caplog.at_level(logging.INFO, logger="hemitwin"):
        assert not _Copy(folder, **changed).run()
    assert reason in caplog.text


def test_a_file_put_back_with_its_old_times_and_size_is_noticed(folder):
    source = folder / "in" / "a.txt"
    before = source.stat()
    source.write_text("two")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not _Copy(folder).run()


def test_a_moved_product_is_recognised_by_content_and_then_without_reading(folder, monkeypatch):
    moved = folder.with_name(f"{folder.name}-moved")
    shutil.copytree(folder, moved)
    assert _Copy(moved).run()
    read = []
    monkeypatch.setattr(records, "digest_file", lambda path: read.append(path) or "")
    assert _Copy(moved).run()
    assert not read


def test_a_read_only_folder_of_true_products_is_no_error(folder, monkeypatch):
    moved = folder.with_name(f"{folder.name}-moved")
    shutil.copytree(folder, moved)

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(records, "write_json", refuse)
    assert _Copy(moved).run()


def test_what_changes_while_it_is_read_is_seen_by_the_next_run(folder):
    (folder / "in" / "a.txt").write_text("two")
    copy = _Copy(folder)
    assert copy.record.find(copy.sidecar) is None
    copy.record.begin(copy.sidecar)
    copy.product.write_bytes(copy.source.read_bytes())
    copy.source.write_text("three")
    copy.record.write(copy.sidecar, {}, [copy.product])
    assert not _Copy(folder).run()
    assert copy.product.read_text() == "three"


def test_a_run_that_was_cut_off_leaves_nothing_that_counts_as_done(folder):
    copy = _Copy(folder, settings={"case": 2})
    assert copy.record.find(copy.sidecar) is None
    copy.record.begin(copy.sidecar)
    assert read_product(copy.product) is None
    assert not _Copy(folder).run()


def test_leftovers_are_swept_by_a_run_with_nothing_to_do(folder):
    (folder / "out" / ".partial-abc-b.nii").write_text("half")
    assert _Copy(folder).run()
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["b.json", "b.nii"]


def test_what_version_0_1_0_made_is_remade_or_taken_and_said_in_one_line(folder, caplog):
    copy = _Copy(folder)
    old = {"Description": "old", "Key": "0", "Digest": digest_file(copy.product)}
    write_json(copy.sidecar, old)
    assert read_product(copy.product) == old
    assert recorded_inputs(old) == {}
    with caplog.at_level(logging.INFO, logger="hemitwin"):
        assert not copy.run()
    assert "made again: an earlier version" in caplog.text
    copy.product.write_text("other")
    assert read_product(copy.product) is None


def test_a_product_is_read_only_if_it_is_what_was_written(folder):
    copy = _Copy(folder)
    content = read_product(copy.product)
    assert content is not None
    assert content["Description"] == "a copy"
    assert recorded_inputs(content) == {"source": digest_file(copy.source)}
    assert content_digest(copy.product) == digest_file(copy.product)
    copy.product.write_text("two")
    assert read_product(copy.product) is None
    assert content_digest(copy.product) == digest_file(copy.product)


def test_records_of_equal_content_are_equal_wherever_they_lie(folder):
    moved = folder.with_name(f"{folder.name}-moved")
    shutil.copytree(folder, moved)
    assert _Copy(folder).record.digest == _Copy(moved).record.digest
    assert _Copy(folder).record.digest != _Copy(folder, computation=2).record.digest


def test_a_sidecar_names_no_folder(folder):
    text = json.dumps(json.loads((folder / "out" / "b.json").read_text())["MadeFrom"])
    assert str(folder) not in text
