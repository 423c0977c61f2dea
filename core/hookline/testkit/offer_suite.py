"""OfferSuite: what holds for an offer of any kind. The suites of the kinds are subclasses."""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar, cast

import msgspec
import pytest

from hookline.config.device import probe_device
from hookline.config.settings import all_settings
from hookline.errors import ResolutionError
from hookline.interfaces.spec import Spec
from hookline.plugins.context import Context
from hookline.plugins.kinds import spec_type_of
from hookline.plugins.manager import load_plugins
from hookline.plugins.options import load_config_model
from hookline.plugins.plan import PluginPlan
from hookline.plugins.registry import LoadedPlugin, Offer, Registry
from hookline.plugins.resolve import choose, resolve

S = TypeVar("S", bound=Spec)

#: Heavy packages that the light module of a plugin must not import.
HEAVY = ("torch", "transformers", "triton", "flashinfer", "xgrammar")


@functools.cache
def installed() -> Registry:
    """Everything that is installed; a fault of another plugin is none of this one's."""
    return load_plugins(strict=False)


class OfferSuite(Generic[S]):
    """Subclass the suite of a kind, call the class ``Test...``, and set ``name``.

    An implementation that no installed plugin offers (a draft, a broken one in a test) is tested by giving
    its ``spec``, whose target must be importable; what needs a distribution is then skipped.
    """

    #: The kind of offer; set by the suite.
    kind: ClassVar[str]
    #: Features that the suite confirms: feature -> what confirms it. A declared feature that is not listed
    #: here is a failure: nobody has checked that it works.
    confirms: ClassVar[Mapping[str, str]] = {}

    #: The offer's name, as users write it.
    name: ClassVar[str] = ""
    #: An offer that is not installed.
    spec: ClassVar[Spec | None] = None
    #: Options of the plugin, as in the config section ``plugins.<plugin>``.
    options: ClassVar[Mapping[str, Any]] = {}

    # --- what the tests of a suite use ---

    @classmethod
    def offer(cls) -> Offer[S]:
        """The offer under test; an error that says what is installed if it is not."""
        if cls.spec is not None:
            return cast(Offer[S], Offer(spec=cls.spec, plugin="", distribution="", version=""))
        if not cls.name:
            raise pytest.UsageError(f"{cls.__name__}: set `name` to the name of the offer (a {cls.kind} offer)")
        return cast(Offer[S], installed().get(spec_type_of(cls.kind), cls.name))

    @classmethod
    def plugin(cls) -> LoadedPlugin:
        """The plugin that makes the offer; skips the test for a ``spec`` without one."""
        offer = cls.offer()
        if not offer.plugin:
            pytest.skip("the offer is not made by an installed plugin")
        return installed().plugin(offer.plugin)

    @classmethod
    def target(cls) -> Any:
        """The implementation, imported as an engine imports it."""
        offer = cls.offer()
        if offer.plugin:
            return PluginPlan(source_paths=installed().source_paths).load(choose(offer))
        module, _, attribute = offer.spec.target.partition(":")
        return getattr(importlib.import_module(module), attribute)

    @classmethod
    def checked_options(cls) -> Any:
        """``options`` as the plugin's config model; ``None`` if it has none."""
        if not cls.offer().plugin:
            return None
        model = load_config_model(cls.plugin())
        return None if model is None else model.model_validate(dict(cls.options))

    @classmethod
    def has(cls, feature: str) -> bool:
        """Whether the offer declares a feature."""
        return feature in cls.offer().spec.features

    @classmethod
    def need(cls, feature: str) -> None:
        """Skip the test unless the offer declares the feature."""
        if not cls.has(feature):
            pytest.skip(f"'{cls.offer().spec.name}' does not declare '{feature}'")

    # --- what holds for every offer ---

    def test_speaks_the_contract_of_this_core(self) -> None:
        spec = self.offer().spec
        assert spec.kind == self.kind
        assert spec.api_version == spec.current_api_version, "raise api_version, or install another hookline-core"

    def test_declares_only_features_that_this_suite_confirms(self) -> None:
        unconfirmed = sorted(self.offer().spec.features - set(self.confirms))
        assert unconfirmed == [], f"not features of {self.kind} (known: {', '.join(sorted(self.confirms)) or 'none'})"

    def test_requirements_name_settings_that_exist(self) -> None:
        known = all_settings()
        assert [path for path in self.offer().spec.requires.config if path not in known] == []

    def test_is_chosen_by_name_or_refused_with_reasons(self) -> None:
        self.plugin()
        facts = probe_device()
        context = Context(device="cuda" if facts.has_cuda else "cpu", capability=facts.capability)
        name = self.offer().spec.name
        try:
            answer: Any = resolve(installed(), self.kind, name, context).names
        except ResolutionError as refused:
            answer = refused.refusals[name]
        assert answer, "neither chosen nor refused with a reason"

    def test_has_a_summary_of_one_line(self) -> None:
        summary = self.offer().spec.summary
        assert summary, "`hookline plugins list` shows the summary"
        assert "\n" not in summary

    def test_plugin_module_imports_nothing_heavy(self) -> None:
        module = self.plugin().module.__name__
        loaded = in_child(f"import json, sys, {module}; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))")
        assert json.loads(loaded) == [], f"{module} is imported by every listing: import these in the target's module"

    def test_target_loads_in_a_process_that_knows_the_plan_only(self) -> None:
        """Engines send names and targets to their processes, never objects."""
        offer = self.offer()
        self.plugin()
        plan = msgspec.json.encode(PluginPlan(chosen=[choose(offer)], source_paths=installed().source_paths))
        loaded = in_child(
            "import sys, msgspec; from hookline.plugins.plan import PluginPlan\n"
            "plan = msgspec.json.decode(sys.stdin.buffer.read(), type=PluginPlan)\n"
            f"print(plan.load(plan.one({self.kind!r})).__qualname__)",
            plan,
        )
        assert loaded.strip() == self.target().__qualname__


def in_child(source: str, stdin: bytes = b"", *, hash_seed: int | None = None) -> str:
    """Run Python source in a fresh interpreter with this one's path; its standard output.

    ``hash_seed`` decides the order of sets of strings there, as PYTHONHASHSEED does.
    """
    start = f"import sys; sys.path[:] = {sys.path!r}\n"
    env = os.environ if hash_seed is None else {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, "-c", start + source]
    answer = subprocess.run(command, input=stdin, capture_output=True, check=False, env=env)
    assert answer.returncode == 0, answer.stderr.decode()
    return answer.stdout.decode()
