"""Hookline as a release: wheels of core and of all members, and environments that have nothing else of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MEMBERS = [ROOT / "core", *sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))]
#: Import packages of all of them.
PACKAGES = ["hookline", *(f"hookline_{folder.name}" for folder in MEMBERS[1:])]

_BUILD = """
import os, sys
from hatchling.build import build_wheel
target, *folders = sys.argv[1:]
for folder in folders:
    os.chdir(folder)
    build_wheel(target)
"""


def build_wheels(folders: Iterable[Path], target: Path) -> list[Path]:
    """Build the wheel of each distribution, as a release does, and return all wheels in ``target``."""
    target.mkdir(parents=True, exist_ok=True)
    answer = subprocess.run(
        [sys.executable, "-c", _BUILD, str(target), *(str(folder) for folder in folders)],
        capture_output=True,
        text=True,
        env={**os.environ, "HOOKLINE_PIN": "==0.1.0"},
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return sorted(target.glob("*.whl"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What environments are made of."""

    #: Wheels of everything in this repository.
    wheels: Path
    #: What is installed for the tests but nothing of Hookline, neither code nor metadata: it cannot be downloaded
    #: again, so environments link to it.
    third_party: Path

    @classmethod
    def make(cls, place: Path) -> Release:
        build_wheels([ROOT, *MEMBERS], place / "wheels")
        made = cls(wheels=place / "wheels", third_party=place / "third-party")
        made.third_party.mkdir()
        for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
            is_ours = entry.name.removeprefix("_").startswith(("hookline", "__editable__"))
            if not is_ours and entry.suffix != ".pth":
                (made.third_party / entry.name).symlink_to(entry)
        return made


class ReleasedEnvironment:
    """A virtual environment in which Hookline comes from released wheels alone."""

    def __init__(self, folder: Path, release: Release) -> None:
        self.folder = folder
        self.release = release
        self.python = folder / "bin" / "python"
        self.packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        self.variables = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "OMP_NUM_THREADS": "1",
            "HOOKLINE__EXECUTION__CPU_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }

    @classmethod
    def create(cls, folder: Path, release: Release, *requirements: str) -> ReleasedEnvironment:
        venv.EnvBuilder(with_pip=False).create(folder)
        made = cls(folder, release)
        (made.packages / "third-party.pth").write_text(f"{release.third_party}\n")
        made.install(*requirements)
        return made

    def copy(self, folder: Path) -> ReleasedEnvironment:
        """The same in another folder; its scripts still name this one's Python, its modules do not."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return ReleasedEnvironment(folder, self.release)

    @property
    def program(self) -> list[str]:
        """``hookline`` without the current folder on sys.path."""
        return [str(self.python), "-P", "-m", "hookline"]

    def install(self, *requirements: str, find: Path | None = None) -> None:
        """Install what requirements name, and what that needs, from the released wheels and those in ``find``."""
        links = [f"--find-links={place}" for place in (self.release.wheels, find) if place is not None]
        self._pip("install", "-q", "--no-index", *links, *requirements)

    def uninstall(self, distribution: str) -> None:
        self._pip("uninstall", "-q", "-y", distribution)

    def run(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run this environment's Python to its end; the current folder is not on sys.path."""
        return subprocess.run(
            [str(self.python), "-P", *arguments],
            cwd=cwd,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def must(self, *arguments: str, cwd: Path) -> str:
        """The standard output of a run that has to succeed."""
        answer = self.run(*arguments, cwd=cwd)
        assert answer.returncode == 0, f"{' '.join(arguments)}\n{answer.stdout}\n{answer.stderr}"
        return answer.stdout

    def _pip(self, *arguments: str) -> None:
        answer = subprocess.run(
            [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(self.python), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
