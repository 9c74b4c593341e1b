"""Cases one by one: each failure is told in one line, whatever it was, and the others go on."""

import pytest

from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.errors import CaseError, UserError
from hemitwin.pipeline.stage.json_files import digest_file, write_text
from hemitwin.pipeline.stage.runner import run_cases


@pytest.fixture
def files(tmp_path):
    """Three files and one that is not there; a path is a case: it has a name."""
    for name in "abc":
        write_text(tmp_path / name, name)
    return [tmp_path / name for name in "abcd"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CaseError("sub-01", "test", "what to do"), "what to do"),
        (UserError("what to do"), "what to do"),
        (PermissionError(13, "Permission denied", "a/b"), r"^a/b: Permission denied; check the p"),
        (OSError(28, "No space left on device"), r"^a file: No space left on device; check"),
        (
            PermissionError(13, "Permission denied", "a/.partial-12-34@host@0af3-sub-01.nii.gz"),
            r"^a/sub-01.nii.gz: Permission denied",
        ),
        (KeyError("Ledger"), "^KeyError: 'Ledger'$"),
        (MemoryError(), "^MemoryError$"),
        (ZeroDivisionError("division by zero"), "^division by zero$"),
    ],
)
def test_a_failure_is_one_line_of_text(tmp_path, error, reason):
    def fail(_):
        raise error

    cases = [Case("sub-01", "sub-01", tmp_path)]
    (failure,) = run_cases(fail, cases, stage="test", out=tmp_path).failures
    with pytest.raises(ValueError, match=reason):
        raise ValueError(failure.reason)
    assert "Traceback" in (tmp_path / "logs" / "sub-01_test.log").read_text()


def test_a_folder_that_takes_no_logs_ends_nothing(files, tmp_path):
    out = tmp_path / "a"  # below a file there can be no folder
    outcome = run_cases(digest_file, files, stage="read", out=out)
    assert (len(outcome.results), len(outcome.failures)) == (3, 1)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_give_the_results_in_the_order_of_the_cases(files, tmp_path, threads):
    outcome = run_cases(digest_file, files, stage="read", out=tmp_path / "out", threads=threads)
    assert outcome.results == tuple(map(digest_file, files[:3]))
    assert [one.case for one in outcome.failures] == ["d"]
