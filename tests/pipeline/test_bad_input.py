"""Bad input through the command line: a clear message, exit code not 0, the others done."""

import gzip
import re
import shutil

import nibabel as nib
import numpy as np
import pytest

from hemitwin.atlases import TEMPLATE_SPACE
from hemitwin.pipeline.cli.main import main
from hemitwin.pipeline.preparation.prepare import PrepareConfig, prepare
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.json_files import read_json

PREPARED = f"space-{TEMPLATE_SPACE}_desc-prepared_T1w"

pytestmark = pytest.mark.xdist_group("path")


@pytest.fixture
def bids(prepared, tmp_path):
    for subject in ("sub-01", "sub-02"):
        shutil.copytree(prepared.bids / subject, tmp_path / "bids" / subject)
    return tmp_path / "bids"


def _rewrite(path, data=None, affine=None):
    image = nib.Nifti1Image.from_filename(path)
    data = np.asanyarray(image.dataobj) if data is None else data
    nib.save(nib.Nifti1Image(data, image.affine if affine is None else affine), path)


def _truncate(path):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _truncate_inside(path):
    """A whole gzip stream around half a volume."""
    inside = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(inside[: len(inside) // 2]))


def _make_4d(path):
    data = np.asanyarray(nib.Nifti1Image.from_filename(path).dataobj)
    _rewrite(path, np.stack([data, data], axis=-1))


def _make_zero(path):
    _rewrite(path, np.zeros_like(np.asanyarray(nib.Nifti1Image.from_filename(path).dataobj)))


def _make_nan(path):
    data = np.asanyarray(nib.Nifti1Image.from_filename(path).dataobj).copy()
    data[10, 10, 10] = np.nan
    _rewrite(path, data)


def _make_singular(path):
    image = nib.Nifti1Image.from_filename(path)
    header = image.header.copy()
    header["sform_code"], header["qform_code"] = 1, 0
    header["srow_x"] = header["srow_y"]
    written = nib.Nifti1Image(np.asanyarray(image.dataobj), None, header)
    written.header["srow_x"] = written.header["srow_y"]
    nib.save(written, path)


def _rewrite_header(path, **fields):
    """Change a header as a careless program does: the voxels stay what they are."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(content)))


def _turn_qform(path):
    image = nib.Nifti1Image.from_filename(path)
    image.set_qform(image.affine @ np.diag([-1.0, 1, 1, 1]), code=1)
    _rewrite(path)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine, image.header), path)


def _make_tiny(path):
    image = nib.Nifti1Image.from_filename(path)
    _rewrite(path, affine=image.affine @ np.diag([0.1, 0.1, 0.1, 1]))


def _copy_unpacked(path):
    path.with_name(path.name.removesuffix(".gz")).write_bytes(gzip.decompress(path.read_bytes()))


def _rename(path, name):
    path.rename(path.with_name(name))


def _link_to_nothing(path):
    path.unlink()
    path.symlink_to(path.with_name("annexed"))


WORSE = {
    "sides": (_turn_qform, "agree on which side is left"),
    "field of view": (_make_tiny, "field of view must be 60 to 600 mm"),
    "unit": (lambda path: _rewrite_header(path, srow_x=1e-6, srow_y=1, srow_z=1), "affine must"),
    "bomb": (
        lambda path: path.write_bytes(path.read_bytes() + gzip.compress(bytes(50_000_000))),
        "unpack to what its header declares",
    ),
    "huge": (lambda path: _rewrite_header(path, dim=[3, 9999, 9999, 9999, 1, 1, 1, 1]), "at most"),
    "twice": (_copy_unpacked, "one file must be the scan"),
    "name": (lambda path: _rename(path, "sub-01_T1w.nii.gz"), "must begin as its folders do"),
    "link": (_link_to_nothing, "is a link to nothing"),
}
"""Refused before anything is aligned: cheap enough to be tried in one run."""


def test_each_kind_of_bad_scan_fails_alone_and_with_its_reason(prepared, tmp_path, capfd):
    for number, (spoil, _) in enumerate(WORSE.values()):
        scan = tmp_path / f"bids/sub-x{number}/anat/sub-x{number}_T1w.nii.gz"
        scan.parent.mkdir(parents=True)
        shutil.copy(prepared.bids / "sub-01/anat/sub-01_T1w.nii.gz", scan)
        spoil(scan)
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        main(["prepare", str(tmp_path / "bids"), str(out), "participant", "--resolution-mm", "4"])
    assert ended.value.code == 1
    assert f"0 done, 0 up to date, {len(WORSE)} failed" in capfd.readouterr().out
    for number, (name, (_, reason)) in enumerate(WORSE.items()):
        (log,) = (out / "logs").glob(f"sub-x{number}_*prepare.log")
        assert re.search(reason, log.read_text()), name
    assert not list(out.glob("sub-*"))


def test_a_header_that_is_wrong_but_clear_is_put_right_and_noted(prepared, tmp_path):
    """Millimetres called metres, forms 12 mm apart, no slope, no sidecar: the same volume."""
    whole = prepared.bids / "sub-01/anat/sub-01_T1w.nii.gz"
    scan = tmp_path / "bids/sub-01/anat/sub-01_T1w.nii.gz"
    scan.parent.mkdir(parents=True)
    shutil.copy(whole, scan)
    shift = float(nib.Nifti1Image.from_filename(whole).header["qoffset_x"]) + 12
    _rewrite_header(scan, xyzt_units=1, qform_code=1, qoffset_x=shift, scl_slope=0)
    scan.with_name("sub-01_T1w.json").write_text("{ damaged")
    config = PrepareConfig(resolution_mm=4.0)
    (one,) = prepare(tmp_path / "bids", tmp_path / "out", config=config).results
    sidecar = read_json(sidecar_of(one.volume))
    units, forms = sidecar["HeaderNotes"]
    assert "says metres" in units
    assert "sform and qform differ by up to 12.0 mm" in forms
    assert one.volume.read_bytes() == _prepared_volume(prepared.derivatives).read_bytes()


def _prepared_volume(derivatives):
    return derivatives / "sub-01" / "anat" / f"sub-01_{PREPARED}.nii.gz"


BAD = {
    "truncated": (_truncate, "whole|truncated|damaged"),
    "truncated inside": (_truncate_inside, "whole|truncated|damaged|short"),
    "4D": (_make_4d, "3D"),
    "all zero": (_make_zero, "every voxel of .* is 0"),
    "NaN": (_make_nan, "finite|NaN"),
    "singular affine": (_make_singular, "affine"),
    "no T1w": (lambda path: path.unlink(), "a T1w scan must be there"),
}


def test_bad_scans_are_reported_and_the_others_are_done(prepared, tmp_path, capfd):
    bids, out = tmp_path / "bids", tmp_path / "out"
    shutil.copytree(prepared.bids / "sub-01", bids / "sub-01")
    labels = [f"1{number}" for number in range(len(BAD))]
    for label, (spoil, _) in zip(labels, BAD.values(), strict=True):
        scan = bids / f"sub-{label}/anat/sub-{label}_T1w.nii.gz"
        scan.parent.mkdir(parents=True)
        shutil.copy(prepared.bids / "sub-01/anat/sub-01_T1w.nii.gz", scan)
        spoil(scan)
    with pytest.raises(SystemExit) as ended:
        main(["prepare", str(bids), str(out), "participant", "--resolution-mm", "4"])
    assert ended.value.code == 1
    for label, (name, (_, message)) in zip(labels, BAD.items(), strict=True):
        assert re.search(message, (out / "logs" / f"sub-{label}_prepare.log").read_text()), name
        assert not (out / f"sub-{label}").exists()
    printed = capfd.readouterr()
    assert "1 done" in printed.out
    again = f"hemitwin prepare {bids} {out} participant --resolution-mm 4 --participant-label"
    assert " ".join([again, *labels]) in " ".join(printed.err.split())
    assert (out / "sub-01" / "anat" / "sub-01_desc-prepared_T1w.png").is_file()
    assert not list(out.rglob(".partial-*"))


def test_labels_with_and_without_prefix_are_taken_one_after_the_other(prepared, capfd):
    words = ["--resolution-mm", "4", "--participant-label", "01", "sub-02"]
    with pytest.raises(SystemExit) as ended:
        main(["prepare", str(prepared.bids), str(prepared.derivatives), "participant", *words])
    assert ended.value.code == 0
    assert "2 up to date" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepare", "@tmp/none", "@tmp/out", "participant"], "which is not there"),
        (["prepare", "@bids", "@tmp/out", "participant", "--participant-label", "99"], "sub-99"),
        (["prepare", "@bids", "@tmp/out", "group"], "participant"),
        (["train", "@tmp/none.yaml", "-o", "@tmp/run"], "which is not there"),
        (["evaluate", "@tmp/none"], "finish training"),
        (["explain", "@tmp/none", "@bids"], "finish training"),
        (["parcellate", "@bids"], "prepared T1w"),
        (["export", "@tmp/none"], "must be a folder"),
        (["slice", "@bids", "@tmp/out"], "prepared T1w"),
        (
            ["batch", "write", "train", "x", "-o", "@tmp/a.sbatch"],
            "is not one of 'prepare', 'explain'",
        ),
    ],
)
def test_a_request_that_cannot_be_met_exits_with_2(bids, tmp_path, capfd, words, message):
    filled = [word.replace("@tmp", str(tmp_path)).replace("@bids", str(bids)) for word in words]
    with pytest.raises(SystemExit) as ended:
        main(filled)
    assert ended.value.code == 2
    assert message in " ".join(capfd.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_an_unknown_key_exits_with_2_and_names_the_nearest(tmp_path, capfd):
    config = tmp_path / "c.yaml"
    config.write_text("data: {prepared: x}\ntraining: {epoch: 3}\n")
    with pytest.raises(SystemExit) as ended:
        main(["train", str(config), "-o", str(tmp_path / "run")])
    assert ended.value.code == 2
    assert "did you mean 'epochs'" in capfd.readouterr().err
