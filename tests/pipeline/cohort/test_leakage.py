import gzip
import json
import stat

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from hemitwin.atlases import load_template, save_volume
from hemitwin.pipeline.cohort.config import SplitConfig
from hemitwin.pipeline.cohort.leakage import (
    fingerprint,
    refuse_copies,
    require_unseen,
    write_guards,
)
from hemitwin.pipeline.cohort.split import Split, make_split
from hemitwin.pipeline.evaluation.halves_evaluation import evaluate_halves
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.training.sources.halves import score_pairs
from hemitwin.pipeline.training.sources.pairs import ScoredPair
from hemitwin.transforms import (
    AnatomyConfig,
    deform_anatomy,
    sample_anatomy,
    slice_positions,
    slice_volume,
)

SPLIT = Split({"sub-1": "train", "sub-2": "validation", "sub-3": "test"}, seed=0)
GROUPS = {"sub-1": "family-a", "sub-8": "family-a", "sub-3": "sub-3", "sub-9": "sub-9"}


@pytest.fixture
def cases(tmp_path):
    """Five small volumes of five people."""
    made = {}
    for k in (1, 2, 3, 8, 9):
        path = tmp_path / f"sub-{k}.nii.gz"
        data = np.random.default_rng(k).random((6, 6, 6)).astype(np.float32)
        save_volume(path, data, np.diag([-4.0, 4, 4, 1]))
        made[k] = Case(f"sub-{k}", f"sub-{k}", path)
    return made


@pytest.fixture
def guarded(cases, tmp_path):
    write_guards(tmp_path / "run", SPLIT, [cases[k] for k in (1, 2, 3)], GROUPS)
    return tmp_path / "run"


def test_the_test_fold_and_strangers_pass(guarded, cases):
    require_unseen(guarded, SPLIT, [cases[3], cases[9]])


@pytest.mark.parametrize(("number", "fold"), [(1, "train"), (2, "validation")])
def test_who_was_learnt_from_is_refused_by_name(guarded, cases, number, fold):
    with pytest.raises(UserError, match=rf"sub-{number} \({fold}\)"):
        require_unseen(guarded, SPLIT, [cases[3], cases[number]])


def test_a_relative_of_a_training_subject_is_refused_by_name(guarded, cases):
    with pytest.raises(UserError, match=r"sub-8 \(relative in train\)") as caught:
        require_unseen(guarded, SPLIT, [cases[3], cases[8]])
    assert "sub-1" not in str(caught.value)


@pytest.mark.parametrize("number", [1, 2])
def test_a_copy_under_another_name_is_refused(guarded, cases, number):
    copy = cases[9].scan.with_name("other.nii")
    copy.write_bytes(gzip.decompress(cases[number].scan.read_bytes()))
    with pytest.raises(UserError, match=r"sub-9 \((train|validation)\) holds the same voxels"):
        require_unseen(guarded, SPLIT, [cases[3], Case("sub-9", "sub-9", copy)])


def test_what_a_run_keeps_names_nobody(guarded, cases):
    written = (guarded / "fingerprints.json").read_text()
    assert "sub-" not in written
    assert "family" not in written
    plain = {fingerprint(case.scan) for case in cases.values()}
    assert not plain & set(json.loads(written)["train"])
    private = guarded / "families.private.json"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert sorted(path.name for path in guarded.iterdir()) == [private.name, "fingerprints.json"]


def test_one_volume_with_two_names_across_folds_is_refused(cases):
    refuse_copies([cases[k] for k in (1, 2, 3)], SPLIT)
    twin = Case("sub-3", "sub-3", cases[1].scan)
    with pytest.raises(UserError, match="sub-1 and sub-3 hold the same voxels"):
        refuse_copies([cases[1], twin], SPLIT)
    refuse_copies([cases[1], Case("sub-1", "sub-1_ses-2", cases[1].scan)], SPLIT)


def test_a_run_from_before_the_fingerprints_says_so(tmp_path, cases, caplog):
    require_unseen(tmp_path, SPLIT, [cases[3]])
    assert "go unnoticed" in caplog.text


def test_a_volume_that_cannot_be_read_is_nobodys_copy(cases):
    """It fails where it is used, as its own case."""
    everyone = [cases[k] for k in (1, 2, 3)]
    cases[2].scan.write_bytes(b"no image")
    refuse_copies(everyone, SPLIT)
    cases[3].scan.write_bytes(cases[1].scan.read_bytes())
    with pytest.raises(UserError, match="sub-1 and sub-3 hold the same voxels"):
        refuse_copies(everyone, SPLIT)


@pytest.mark.xdist_group("path")
def test_evaluation_refuses_a_copy_of_a_training_scan(run, prepared, tmp_path):
    tested, learnt = run.split.subjects("test"), run.split.subjects("train")[0]
    for name in tested:
        source = prepared.derivatives / (learnt if name == tested[0] else name) / "anat"
        target = tmp_path / name / "anat"
        target.mkdir(parents=True)
        for path in source.glob("*prepared_T1w*"):
            renamed = path.name.replace(source.parent.name, name)
            (target / renamed).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=rf"{tested[0]} \(train\) holds the same voxels"):
        evaluate_halves(run, prepared=tmp_path)


@pytest.mark.xdist_group("path")
def test_evaluation_refuses_relatives_that_came_to_light_later(run):
    tested, learnt = run.split.subjects("test")[0], run.split.subjects("train")[0]
    private = run.folder / "families.private.json"
    private.write_text(json.dumps({"groups": {tested: "a", learnt: "a"}}))
    try:
        with pytest.raises(UserError, match=rf"{tested} \(relative in train\)"):
            evaluate_halves(run)
    finally:
        private.unlink()


@pytest.mark.xdist_group("path")
def test_scoring_refuses_another_fold(run):
    half = torch.zeros(1, 8, 8, 8)
    pairs = [[ScoredPair(run.split.subjects("train")[0], half, half, None)]]
    with pytest.raises(UserError, match=r"\(train\)"):
        score_pairs(run.network, pairs, split=run.split, fold="test")


_PEOPLE = 30
_DRAWS = 40


@pytest.fixture(scope="module")
def slices():
    """Axial slices of synthetic people at 4 mm, with the number of the person."""
    template = load_template(4.0)
    pictures, people = [], []
    for person in range(_PEOPLE):
        spec = sample_anatomy(np.random.default_rng([3, person]), AnatomyConfig())
        brain = deform_anatomy(template.data, template.affine, spec)
        positions = slice_positions(brain > 0, template.affine, "axial", 4.0)[10:26]
        for z in positions:
            picture = slice_volume(brain, template.affine, "axial", z)
            pictures.append(picture[::2, ::2].ravel())
            people.append(person)
    return np.array(pictures), np.array(people)


def _accuracies(slices, group_of):
    """Cross-validated 1-nearest-neighbour accuracy for each draw of random labels."""
    pictures, people = slices
    names = [f"slice-{k:03d}" for k in range(len(people))]
    groups = {name: group_of(name, person) for name, person in zip(names, people, strict=True)}
    labels = np.array(
        [
            np.random.default_rng(draw).permutation(np.arange(_PEOPLE) % 2)[people]
            for draw in range(_DRAWS)
        ]
    )
    right = np.zeros(labels.shape, dtype=bool)
    for fold in range(5):
        split = make_split(groups, SplitConfig(folds=5, fold=fold, validation=1), seed=0)
        test = np.array([split.folds[name] == "test" for name in names])
        index = NearestNeighbors(n_neighbors=1).fit(pictures[~test])
        nearest = index.kneighbors(pictures[test], return_distance=False)[:, 0]
        right[:, test] = labels[:, test] == labels[:, ~test][:, nearest]
    return right.mean(axis=1)


def test_random_labels_score_at_chance_by_subject_and_not_by_slice(slices):
    """The leak of the literature: labels without meaning reach 96 % when slices are split.

    Yagis et al. 2021, Scientific Reports 11:22544: 96 % by slice, 50 % by subject. There is
    nothing to learn in the labels; by slice, the neighbour is the same person's next slice.
    """
    by_subject = _accuracies(slices, lambda _, person: f"person-{person}")
    low, high = np.quantile(by_subject, [0.025, 0.975])
    assert low < 0.5 < high
    assert abs(by_subject.mean() - 0.5) < 0.03
    by_slice = _accuracies(slices, lambda name, _: name)
    assert np.quantile(by_slice, 0.025) > 0.9
