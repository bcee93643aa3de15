"""A bundle or a file appears whole or not at all, and nothing of somebody else's is lost."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from conjoin.bundle import place
from conjoin.bundle.format import file_error
from conjoin.errors import FileError

FILES = {"README.md": b"hello"}


def sound(folder: Path) -> Path:
    """A folder that the checks of a place take for a bundle."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "attacks"))
    try:
        import good
    finally:
        del sys.path[0]
    good.save(folder)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_bundle_is_replaced_only_with_force(tmp_path: Path) -> None:
    there = sound(tmp_path / "a.conjoin")
    with pytest.raises(FileError, match=r"already there.*--force"):
        place.check_place(there)
    assert place.check_place(there, force=True) == there
    place.write_folder(there, FILES)
    assert names(there) == ["README.md"]
    assert names(tmp_path) == ["a.conjoin"]


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path, force: bool) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(FileError, match="no sound bundle"):
        place.check_place(tmp_path / "photos", force=force)


def test_a_bundle_with_a_strangers_file_is_not_replaced(tmp_path: Path) -> None:
    there = sound(tmp_path / "a.conjoin")
    (there / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match=r"notes\.txt"):
        place.check_place(there, force=True)


def test_an_empty_folder_is_a_place(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    place.write_folder(place.check_place(tmp_path / "a"), FILES)
    assert names(tmp_path / "a") == ["README.md"]


def test_a_file_is_no_place_for_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    with pytest.raises(FileError, match="a file of that name is there"):
        place.check_place(tmp_path / "a", force=True)


def test_the_folder_above_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="make it first"):
        place.check_place(tmp_path / "b" / "a")
    with pytest.raises(FileError, match="make it first"):
        place.check_file(tmp_path / "b" / "a")


def test_a_link_to_a_bundle_stays_a_link(tmp_path: Path) -> None:
    there = sound(tmp_path / "v1")
    (tmp_path / "current").symlink_to(there)
    place.write_folder(place.check_place(tmp_path / "current", force=True), FILES)
    assert (tmp_path / "current").is_symlink()
    assert names(there) == ["README.md"]


def test_a_file_is_replaced_only_with_force(tmp_path: Path) -> None:
    place.write_file(tmp_path / "a.onnx", b"1")
    with pytest.raises(FileError, match="already there"):
        place.write_file(tmp_path / "a.onnx", b"2")
    place.write_file(tmp_path / "a.onnx", b"3", force=True)
    assert (tmp_path / "a.onnx").read_bytes() == b"3"
    assert names(tmp_path) == ["a.onnx"]


def test_a_disk_that_takes_no_more_leaves_what_was_there(tmp_path: Path) -> None:
    """The kernel refuses files beyond a limit, as it does on a full disk."""
    there = sound(tmp_path / "a.conjoin")
    before = names(there)
    script = """
        import sys
        from pathlib import Path
        from conjoin.bundle import place
        from conjoin.errors import FileError
        there = Path(sys.argv[1])
        try:
            place.write_folder(there, {"conjoin.json": b"{}", "arrays.safetensors": bytes(100_000)})
        except FileError as error:
            print(error)
    """

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    command = [sys.executable, "-B", "-c", textwrap.dedent(script), str(there)]
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=True)
    assert "cannot write" in done.stdout
    assert names(there) == before
    assert names(tmp_path) == ["a.conjoin"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(FileError, match="permission"):
        place.write_folder(tmp_path / "closed" / "a", FILES)


@pytest.mark.parametrize(
    ("number", "text"),
    [(errno.ENOSPC, "no space is left"), (errno.EACCES, "no permission"), (errno.EROFS, "read-only")],
)
def test_the_message_says_why_and_what_to_do(number: int, text: str) -> None:
    message = str(file_error(OSError(number, os.strerror(number)), "x.conjoin", "write"))
    assert message.startswith("cannot write 'x.conjoin'")
    assert text in message
    assert "choose another place" in message
