import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from hemitwin._atomic import atomic_path, partial_name, sweep_leftovers


def _write_and_wait(path):
    """Start a process that has a temporary file open for good."""
    script = f"""
        import sys, time
        from pathlib import Path
        from hemitwin._atomic import atomic_path
        with atomic_path(Path({str(path)!r})) as temporary:
            temporary.write_text("half")
            print("open", flush=True)
            time.sleep(60)
    """
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline().strip() == "open"
    return process


def test_a_killed_writers_leftover_is_swept_and_a_living_ones_is_not(tmp_path):
    killed, living = (_write_and_wait(tmp_path / name) for name in ("a.txt", "b.txt"))
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        sweep_leftovers(tmp_path)
        assert [path.name[-6:] for path in tmp_path.iterdir()] == ["-b.txt"]
    finally:
        living.kill()
        living.wait()
    sweep_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_an_earlier_version_left_is_swept_and_nothing_else(tmp_path):
    (tmp_path / ".partial-x8_1k2z9-sub-01_T1w.nii.gz").write_text("half")
    (tmp_path / ".partial-0123456789abcdef").mkdir()
    kept = {".hidden", "sub-01_T1w.nii.gz"}
    for name in kept:
        (tmp_path / name).write_text("whole")
    sweep_leftovers(tmp_path)
    sweep_leftovers(tmp_path / "missing")
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_writer_elsewhere_counts_as_dead_after_a_day(tmp_path):
    young, old = (tmp_path / f".partial-1-2@elsewhere@{n}-a.txt" for n in "12")
    young.write_text("half")
    old.write_text("half")
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(old, (two_days_ago, two_days_ago))
    sweep_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [young]


def test_a_process_that_got_the_number_of_a_dead_one_is_another(tmp_path):
    if not os.path.exists(f"/proc/{os.getpid()}/stat"):  # noqa: PTH110
        pytest.skip("the kernel does not tell when a process began")
    own = partial_name("a.txt")
    pid, rest = own.split("@", 1)
    (tmp_path / own).write_text("half")
    (tmp_path / f"{pid}0@{rest}").write_text("half")
    sweep_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [own]


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_files_have_the_permissions_of_any_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("whole")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~umask


def test_writing_leaves_the_umask_of_other_threads_alone(tmp_path, monkeypatch):
    def refuse(_):
        message = "the umask is the whole process's"
        raise AssertionError(message)

    monkeypatch.setattr(os, "umask", refuse)
    errors = []

    def write(name):
        try:
            with atomic_path(tmp_path / name) as temporary:
                temporary.write_text("whole")
        except AssertionError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(f"{k}.txt",)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
