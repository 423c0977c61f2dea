"""What is imported when: commands import no torch, ``Engine`` neither HTTP nor ZMQ."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import contextlib, io, json, sys
from hookline.cli import main

heavy = ("torch", "transformers", "numpy", "fastapi", "starlette", "uvicorn", "zmq", "tokenizers", "huggingface_hub")
seen = {}
for line in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main(line.split())
        except SystemExit as exc:
            status = exc.code
    seen[line] = [status, [name for name in heavy if name in sys.modules]]
print(json.dumps(seen))
"""

COMMANDS = [
    "--version",
    "--help",
    "plugins list",
    "plugins list --json",
    "plugins show attention",
    "plugins check",
    "plugins matrix",
    "config show --origin",
    "config schema",
    "config init",
    "serve --help",
    "serve --help all",
    "generate --help",
    "chat --help",
    "bench --help",
    "plugins why attention_backends --device cpu",
]


def run(program: str, *arguments: str) -> str:
    environment = {
        "HOOKLINE_SOURCE_TREE": str(ROOT / "plugins"),
        "PYTHONPATH": str(ROOT / "core"),
        "PATH": "/usr/bin:/bin",
    }
    answer = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_commands_that_start_no_engine_import_nothing_heavy() -> None:
    seen = json.loads(run(PROGRAM, json.dumps(COMMANDS)))
    assert seen == {line: [0, []] for line in COMMANDS}


def test_every_interface_is_light() -> None:
    """What plugin modules import: hooks, specs and interfaces."""
    program = (
        "import importlib, pkgutil, sys, hookline.interfaces, hookline.plugins\n"
        "for package in (hookline.interfaces, hookline.plugins):\n"
        "    for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "print([name for name in ('torch', 'numpy', 'transformers', 'fastapi') if name in sys.modules])"
    )
    assert run(program).strip() == "[]"


def test_engine_imports_neither_http_nor_zmq() -> None:
    program = (
        "import sys; from hookline import Engine, SamplingParams\n"
        "print([n for n in ('fastapi', 'starlette', 'uvicorn', 'zmq', 'hookline.api') if n in sys.modules])"
    )
    assert run(program).strip() == "[]"
