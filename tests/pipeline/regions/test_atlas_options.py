"""Options of the command line that choose an atlas."""

from pathlib import Path

import pytest

from hemitwin.pipeline.cli.main import main
from hemitwin.pipeline.cli.options import chosen_atlas, named_atlas
from hemitwin.pipeline.stage.errors import UserError


@pytest.mark.parametrize("words", [None, ["aparc"]])
def test_options_of_files_are_refused_without_files(words):
    with pytest.raises(UserError, match="--atlas-table, --atlas-space, --atlas-name must stand"):
        named_atlas(words, Path("a.tsv"), "MNI152NLin6Asym", "A")
    with pytest.raises(UserError, match=r"^--atlas-name must stand beside the files of an atlas"):
        named_atlas(words, None, None, "A")
    with pytest.raises(UserError, match=r"^--atlas-table must stand"):
        chosen_atlas(None, Path("a.tsv"), None, None)


def test_a_name_and_nothing_are_taken_as_they_are():
    assert named_atlas(["aparc"], None, None, None) == "aparc"
    assert named_atlas(None, None, None, None) == "HCPMMP1"
    assert chosen_atlas(None, None, None, None) is None


def test_a_missing_file_is_the_users_to_mend(tmp_path):
    with pytest.raises(UserError, match=r"missing: .*none\.dlabel\.nii"):
        named_atlas([str(tmp_path / "none.dlabel.nii")], None, None, None)


def test_the_verbs_pass_the_refusal_on(tmp_path, capfd):
    for words in (
        ["parcellate", str(tmp_path), "--atlas", "aparc", "--atlas-name", "A"],
        ["atlas", str(tmp_path), "--atlas-space", "MNI152NLin6Asym"],
        ["tabulate", "a.nii", "-o", "a.tsv", "--atlas-table", "b.tsv"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code != 0
        assert f"{words[-2]} must stand beside" in " ".join(capfd.readouterr().err.split())


def test_help_says_how_folders_and_masks_are_meant(capfd):
    with pytest.raises(SystemExit):
        main(["atlas", "--help"])
    printed = " ".join(capfd.readouterr().out.replace("│", " ").split())
    assert "called sub-01 or 01, of a session sub-01_ses-1" in printed
    assert "in the scans' space: kept out of the registration" in printed
    assert "what its map marks is kept out of the registration" in printed
