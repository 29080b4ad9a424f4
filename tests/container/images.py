"""Images built from the Dockerfile by buildah, without a daemon or a registry, and processes that run in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.fixtures.tools import missing
from tests.integration.ferry import Finished, until

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
BASE = "localhost/base"
PROGRAMS = ("buildah", "debootstrap", "unshare", "chroot")
_INDEX = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT")
"""Build arguments that say where pip finds packages; BASE brings certificates and /etc/pip.conf."""
_PATIENCE_S = 120.0


def need_builder() -> None:
    """Without root and the programs the tests are skipped by name; with CI=true they fail."""
    if all(shutil.which(name) for name in PROGRAMS) and os.geteuid() == 0:
        return
    missing(f"images are built by root with {', '.join(PROGRAMS)}: run ./run_nightly.sh as root")


@dataclass(frozen=True)
class Image:
    """One built image, with its root file system mounted at `root`. `config` is as OCI's image specification has it."""

    container: str
    root: Path
    config: Mapping[str, Any]
    history: str
    """How it was made, as everybody sees it who has the image."""
    builder: Builder

    @property
    def environment(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.config["Env"])

    def call(self, *arguments: str, command: Sequence[str] | None = None) -> subprocess.CompletedProcess[str]:
        """The entry point (or `command`) with `arguments`, by `buildah run`, to its end."""
        entry = self.config["Entrypoint"] if command is None else command
        return self.builder.run("run", self.container, "--", *entry, *arguments, check=False)

    def start(
        self,
        *arguments: str,
        folder: Path,
        environment: Mapping[str, str],
        command: Sequence[str] | None = None,
        user: str | None = None,
    ) -> Container:
        """The entry point (or `command`) as process 1 of a container with a read-only root; output goes to `folder`."""
        entry = self.config["Entrypoint"] if command is None else command
        return Container(
            [
                *("unshare", "--mount", "--pid", "--fork", str(HERE / "run_image.sh")),
                *(str(self.root), user or self.config["User"], self.config["WorkingDir"]),
                *(*entry, *arguments),
            ],
            {**self.environment, **environment},
            folder,
        )


class Container:
    """A process that runs in an image, and all it started."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        folder.mkdir(parents=True)
        self._out, self._err = folder / "stdout", folder / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                command, env={**environment}, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    @property
    def first(self) -> psutil.Process:
        """Process 1 of the container, as the machine sees it."""
        (child,) = psutil.Process(self._process.pid).children()
        return child

    @property
    def others(self) -> list[psutil.Process]:
        """All the other processes of the container, dead ones that nobody has waited for included."""
        return self.first.children(recursive=True)

    def signal(self, number: int) -> None:
        """As an engine does it: to process 1 alone, from outside."""
        self.first.send_signal(number)

    def until(self, condition: Any, what: str) -> None:
        """Returns as soon as `condition` holds; fails when the container has ended before."""

        def met() -> bool:
            if condition():
                return True
            if self._process.poll() is not None:
                raise AssertionError(f"the container ended before this: {what}\n{self.wait().explain()}")
            return False

        until(met, what)

    def wait(self) -> Finished:
        """How it ended; its summary is the JSON of --summary=- where its standard output is that."""
        try:
            code = self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not end within {_PATIENCE_S:.0f} s:\n{self.stderr[-6000:]}") from None
        summary = json.loads(self.stdout) if self.stdout.startswith("{") else {}
        return Finished(code, self.stdout, self.stderr, summary)

    def kill(self) -> None:
        """End it with everything in it. May be repeated."""
        # the kernel ends a namespace with its process 1
        for first in psutil.Process(self._process.pid).children() if self._process.poll() is None else []:
            first.kill()
        self._process.kill()
        self._process.wait()


class Builder:
    """buildah with a store of its own."""

    def __init__(self, folder: Path, driver: str) -> None:
        self._folder = folder
        settings = folder / "storage.conf"
        settings.write_text(
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{folder}/images"\nrunroot = "{folder}/containers"\n'
        )
        self._environment = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(settings),
            "STORAGE_DRIVER": driver,
            "BUILDAH_ISOLATION": "chroot",
        }

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One command of buildah. Fails with what it said, unless told not to `check`."""
        return self._call(["buildah", *arguments], check=check)

    def make_base(self) -> None:
        """A plain Debian with python3 and python3-venv."""
        self._call([str(HERE / "base_image.sh"), BASE], check=True)

    def build(self, name: str, *flags: str) -> None:
        """One target of the Dockerfile."""
        index = [f"--build-arg={key}={os.environ[key]}" for key in _INDEX if key in os.environ]
        flags = ("--layers", "--pull-never", f"--build-arg=BASE={BASE}", *index, *flags)
        self.run("bud", *flags, "--tag", name, str(REPOSITORY))

    @contextmanager
    def opened(self, name: str) -> Iterator[Image]:
        """An image with its root mounted."""
        container = self.run("from", "--pull-never", name).stdout.strip()
        found = json.loads(self.run("inspect", "--type=image", name).stdout)["OCIv1"]
        root = Path(self.run("mount", container).stdout.strip())
        try:
            yield Image(container, root, found["config"], json.dumps(found["history"]), self)
        finally:
            self.run("umount", container)
            self.run("rm", container)

    def _call(self, command: Sequence[str], *, check: bool) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, check=False, env=self._environment, capture_output=True, text=True)
        if check:
            assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done


@contextmanager
def builder() -> Iterator[Builder]:
    """A builder whose store is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="s3ferry-images-"))
    try:
        yield Builder(folder, "overlay" if _has_overlay(folder) else "vfs")
    finally:
        # overlay keeps its part of the store mounted
        subprocess.run(["umount", folder / "images" / "overlay"], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)


def _has_overlay(folder: Path) -> bool:
    """Whether file systems can be laid over each other there: a build is then several times faster than with vfs."""
    names = ("lower", "upper", "work", "whole")
    for name in names:
        (folder / name).mkdir()
    paths = ",".join(f"{name}dir={folder / name}" for name in names[:3])
    mount = ["mount", "-t", "overlay", "-o", paths, "overlay", str(folder / "whole")]
    if subprocess.run(mount, check=False, stderr=subprocess.DEVNULL).returncode:
        return False
    subprocess.run(["umount", folder / "whole"], check=True)
    return True
