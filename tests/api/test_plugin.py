from __future__ import annotations

import importlib
import subprocess
import sys

import pluggy

from hookline.interfaces.api import ApiFamily
from hookline.plugins import hookspecs


def test_hook_hookline_api_families() -> None:
    manager = pluggy.PluginManager("hookline")
    manager.add_hookspecs(hookspecs)
    manager.register(importlib.import_module("hookline_api.plugin"))
    manager.check_pending()
    specs = [spec for offer in manager.hook.hookline_api_families() for spec in offer]
    assert [spec.name for spec in specs] == ["native", "openai", "responses", "anthropic"]
    for spec in specs:
        module, _, attribute = spec.target.partition(":")
        assert issubclass(getattr(importlib.import_module(module), attribute), ApiFamily)
        assert set(spec.admin_paths) | set(spec.open_paths) <= set(spec.paths)


def test_the_plugin_module_imports_no_web_framework_and_the_families_no_torch() -> None:
    code = (
        "import sys, hookline_api.plugin\n"
        "assert not {'fastapi', 'torch'} & set(sys.modules), 'plugin'\n"
        "import hookline_api.native.family, hookline_api.openai.family, "
        "hookline_api.responses.family, hookline_api.anthropic.family, hookline.api.app\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'families'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
