"""Local copies of inventory files: proven, and made once."""

from __future__ import annotations

import dataclasses
import multiprocessing
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model.errors import InvalidInput
from storage.inventory.errors import CorruptInventoryFile
from storage.inventory.location import LocalInventoryStore, Location
from storage.inventory.manifest import ManifestFile
from storage.inventory.spool import discard, spool, spooled_path
from tests.inventory.helpers import load, write_tree


class SlowStore(LocalInventoryStore):
    """A store that notes each download and takes its time."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def download(self, location: Location, path: Path) -> None:
        with self.log.open("a") as log:
            log.write("x")
        time.sleep(0.2)
        super().download(location, path)


@pytest.fixture
def file(tmp_path: Path) -> ManifestFile:
    return load(write_tree(tmp_path / "bucket", [{"key": "a"}])).files[0]


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


def test_a_spooled_file_is_a_whole_copy_under_a_name_of_its_own(tmp_path: Path, file: ManifestFile) -> None:
    folder = tmp_path / "spool"
    path = spool(LocalInventoryStore(), file, folder)
    assert path == spooled_path(file, folder)
    assert path.name.endswith(".csv.gz")
    assert path.read_bytes() == Path(file.location.key).read_bytes()
    assert leftovers(folder) == [path.name]
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("change", "words"), [({"size": 7}, "bytes, the manifest says 7"), ({"md5": "0" * 32}, "the manifest says 000")]
)
def test_a_file_that_is_not_what_the_manifest_says_is_refused(
    tmp_path: Path, file: ManifestFile, change: dict[str, object], words: str
) -> None:
    wrong = dataclasses.replace(file, **change)
    with pytest.raises(CorruptInventoryFile, match=words) as caught:
        spool(LocalInventoryStore(), wrong, tmp_path / "spool")
    assert f"inventory file 0 ({file.location})" in str(caught.value)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), CorruptInventoryFile)
    assert leftovers(tmp_path / "spool") == []


def test_without_md5_the_size_is_enough(tmp_path: Path, file: ManifestFile) -> None:
    assert spool(LocalInventoryStore(), dataclasses.replace(file, md5=None), tmp_path / "spool").exists()


def test_an_md5_that_is_none_is_passed_over(tmp_path: Path) -> None:
    manifest = write_tree(tmp_path, [{"key": "a"}])
    manifest.with_name("manifest.checksum").unlink()
    manifest.write_text(manifest.read_text().replace('"MD5checksum": "', '"MD5checksum": "composite-'))
    assert load(manifest).files[0].md5 is None


def test_a_missing_file_is_wrong_input(tmp_path: Path, file: ManifestFile) -> None:
    Path(file.location.key).unlink()
    with pytest.raises(InvalidInput, match="does not exist"):
        spool(LocalInventoryStore(), file, tmp_path / "spool")


def test_a_second_call_downloads_nothing(tmp_path: Path, file: ManifestFile) -> None:
    store = SlowStore(tmp_path / "log")
    assert spool(store, file, tmp_path / "spool") == spool(store, file, tmp_path / "spool")
    assert store.log.read_text() == "x"


def test_a_copy_of_the_wrong_size_is_replaced(tmp_path: Path, file: ManifestFile) -> None:
    path = spool(LocalInventoryStore(), file, tmp_path / "spool")
    path.write_bytes(b"cut")
    spool(LocalInventoryStore(), file, tmp_path / "spool")
    assert path.read_bytes() == Path(file.location.key).read_bytes()


def test_threads_at_once_download_once(tmp_path: Path, file: ManifestFile) -> None:
    store = SlowStore(tmp_path / "log")
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: spool(store, file, tmp_path / "spool"), range(4)))
    assert len(paths) == 1
    assert store.log.read_text() == "x"


def test_processes_at_once_download_once(tmp_path: Path, file: ManifestFile) -> None:
    store = SlowStore(tmp_path / "log")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=spool, args=(store, file, tmp_path / "spool")) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert store.log.read_text() == "x"


def test_what_a_killed_download_left_is_overwritten(tmp_path: Path, file: ManifestFile) -> None:
    path = spooled_path(file, tmp_path)
    path.with_name(f"{path.name}.part").write_bytes(b"left over" * 1000)
    assert spool(LocalInventoryStore(), file, tmp_path).read_bytes() == Path(file.location.key).read_bytes()


def test_spooling_and_discarding_at_once_leaves_no_damaged_copy(tmp_path: Path, file: ManifestFile) -> None:
    def turn(number: int) -> None:
        if number % 3 == 2:
            discard(file, tmp_path / "spool")
        else:
            spool(LocalInventoryStore(), file, tmp_path / "spool")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(turn, range(300)))
    assert spool(LocalInventoryStore(), file, tmp_path / "spool").stat().st_size == file.size


def test_discard_removes_the_copy_and_may_be_repeated(tmp_path: Path, file: ManifestFile) -> None:
    spool(LocalInventoryStore(), file, tmp_path / "spool")
    discard(file, tmp_path / "spool")
    discard(file, tmp_path / "spool")
    assert list((tmp_path / "spool").iterdir()) == []
