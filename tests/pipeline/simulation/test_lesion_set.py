import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from hemitwin.pipeline.cli.main import main
from hemitwin.pipeline.evaluation.halves_evaluation import evaluate_halves
from hemitwin.pipeline.simulation.lesion_set import MANIFEST, EvaluationSetConfig, simulate_lesions
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import digest_file, read_json
from hemitwin.transforms import LesionConfig

pytestmark = pytest.mark.xdist_group("path")

CONFIG = EvaluationSetConfig(
    lesions_per_subject=2,
    asymmetries_per_subject=1,
    lesions=LesionConfig(volume_mm3=(8000.0, 20000.0), pathologies={"tumour": 1.0}),
)


@pytest.fixture(scope="module")
def made(prepared, tmp_path_factory):
    out = tmp_path_factory.mktemp("set")
    outcome = simulate_lesions(prepared.derivatives, out, config=CONFIG, labels=("01", "02"))
    assert not outcome.failures
    return out, pd.read_csv(out / MANIFEST, sep="\t")


def read(path):
    return np.asarray(nib.Nifti1Image.from_filename(path).dataobj)


def test_the_manifest_names_every_volume_with_its_digest(made):
    out, table = made
    assert len(table) == len(list(out.rglob("*_T1w.nii.gz"))) == 2 * (1 + 2 + 1 + 1 + 1)
    assert [digest_file(out / file) for file in table["file"]] == list(table["sha256"])
    counts = table["role"].value_counts().to_dict()
    assert counts == {"lesion": 4, "healthy": 2, "control": 2, "sham": 2, "asymmetry": 2}


def test_only_one_sided_changes_are_abnormal(made):
    _, table = made
    by_role = table.groupby("role")["label"].unique().map(list).to_dict()
    assert by_role["lesion"] == by_role["asymmetry"] == ["abnormal"]
    assert by_role["control"] == by_role["sham"] == by_role["healthy"] == ["normal"]


def test_healthy_volumes_are_the_prepared_ones(prepared, made):
    out, table = made
    healthy = table[table["role"] == "healthy"]
    assert (healthy["sha256"] == healthy["source_sha256"]).all()
    first = out / healthy["file"].iloc[0]
    source = first.name.replace("desc-healthy", "desc-prepared")
    assert np.array_equal(read(first), read(prepared.derivatives / "sub-01" / "anat" / source))


def test_the_mask_is_the_lesion_and_sham_and_control_repeat_its_specification(made):
    out, table = made
    rows = table[table["participant_id"] == "sub-01"].set_index("item")
    files = {item: out / str(file) for item, file in rows["file"].items()}
    mask = read(str(files["lesion01"]).replace("_T1w", "_mask")) > 0
    changed = read(files["lesion01"]) != read(files["healthy"])
    assert 0 < mask.sum() < changed.size / 10
    assert changed[mask].mean() > 0.9
    specs = {
        item: read_json(sidecar_of(files[item]))["Specification"]
        for item in ("lesion01", "control01", "sham01")
    }
    for role in ("control", "sham"):
        assert specs[f"{role}01"] == specs["lesion01"] | {"role": role}
    sham = read(str(files["sham01"]).replace("_T1w", "_mask")) > 0
    assert np.array_equal(sham, sham[::-1])


def test_again_makes_the_same_bytes_and_touches_nothing_that_is_done(prepared, made, tmp_path):
    out, table = made
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")}
    simulate_lesions(prepared.derivatives, out, config=CONFIG, labels=("01", "02"))
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")}
    simulate_lesions(prepared.derivatives, tmp_path, config=CONFIG, labels=("02",), nprocs=2)
    alone = pd.read_csv(tmp_path / MANIFEST, sep="\t")
    both = table[table["participant_id"] == "sub-02"]
    assert list(alone["sha256"]) == list(both["sha256"])


def test_a_replaced_volume_is_made_again(prepared, made):
    out, table = made
    victim = out / str(table["file"].iloc[1])
    whole = victim.read_bytes()
    victim.write_bytes(whole[:100])
    simulate_lesions(prepared.derivatives, out, config=CONFIG, labels=("01", "02"))
    assert victim.read_bytes() == whole


def test_the_set_gets_a_folder_of_its_own(prepared):
    with pytest.raises(UserError, match="folder of its own"):
        simulate_lesions(prepared.derivatives, prepared.derivatives)


def test_a_matched_sham_must_have_its_lesion():
    with pytest.raises(ValidationError, match="at least 3 lesions_per_subject"):
        EvaluationSetConfig(lesions_per_subject=2, shams_per_subject=3)


def test_a_lesion_without_room_fails_its_subject_alone(prepared, tmp_path, capsys):
    words = ["--set", "lesions.volume_mm3=[9000000, 9000000]", "--participant-label", "01"]
    with pytest.raises(SystemExit, match="1"):
        main(["simulate", "lesions", str(prepared.derivatives), str(tmp_path), *words])
    assert "run again: hemitwin simulate lesions" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*lesion01*"))


def test_a_run_is_scored_on_the_set_shams_and_controls_as_normal(prepared, run, tmp_path):
    labels = run.split.subjects("test")
    config = CONFIG.model_copy(update={"asymmetries_per_subject": 0})
    for label in labels:  # call by call: the manifest keeps who was there
        simulate_lesions(prepared.derivatives, tmp_path, config=config, labels=(label,))
    drawn = run.folder / "evaluation.json"
    before = drawn.read_bytes() if drawn.exists() else None
    pairs = evaluate_halves(run, simulated=tmp_path).pairs
    assert (drawn.read_bytes() if drawn.exists() else None) == before
    assert (run.folder / "evaluation-simulated.json").is_file()
    assert pairs.groupby("role")["lesioned"].mean().to_dict() == {
        "control": 0, "healthy": 0, "lesion": 1, "sham": 0
    }  # fmt: skip
    distance = pairs.groupby(["subject", "role"])["mirror_mean"].first().unstack()
    assert (distance["lesion"] > distance["healthy"]).all()
    victim = next(tmp_path.rglob("*sham01_T1w.nii.gz"))
    victim.write_bytes(b"")
    with pytest.raises(UserError, match="that the manifest names"):
        evaluate_halves(run, simulated=tmp_path)
    manifest = tmp_path / MANIFEST
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match=r"it names 4 volumes of .*, of 5"):
        evaluate_halves(run, simulated=tmp_path)
    with pytest.raises(UserError, match="simulate"):
        evaluate_halves(run, simulated=prepared.derivatives)
