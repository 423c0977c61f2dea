"""Options of plugins: ``plugins.<name>`` of the configuration, checked by each plugin's own pydantic model."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from packaging.utils import canonicalize_name
from pydantic import BaseModel, ValidationError

from hookline.errors import ConfigError, PluginError
from hookline.plugins.names import near_miss
from hookline.plugins.registry import LoadedPlugin, Registry


def load_config_model(plugin: LoadedPlugin) -> type[BaseModel] | None:
    """The model of a plugin's options, if it has any; ``PluginError`` when it does not load."""
    target = plugin.info.config_model
    if target is None:
        return None
    module_name, _, attribute = target.partition(":")
    source = f"plugin '{plugin.name}' of {plugin.distribution} {plugin.version}"
    try:
        model = getattr(importlib.import_module(module_name), attribute)
    except (Exception, SystemExit) as exc:
        raise PluginError(f"the options of {source} do not load from '{target}': {type(exc).__name__}: {exc}") from exc
    if not isinstance(model, type) or not issubclass(model, BaseModel):
        raise PluginError(f"'{target}', the config_model of {source}, is not a pydantic model")
    return model


def check_options(options: Mapping[str, Mapping[str, Any]], registry: Registry) -> dict[str, dict[str, Any]]:
    """Every plugin's options with defaults filled in, as plain values; plugins without options are left out.

    Raises ``ConfigError`` with all that is wrong: unknown plugins name the package to install, unknown
    options the near miss.
    """
    problems = []
    options = _by_plugin(options, registry)
    for name in options:
        try:
            registry.plugin(name)
        except PluginError as exc:
            problems.append(f"plugins.{name}: {exc}; or take the section out of the configuration")
    checked: dict[str, dict[str, Any]] = {}
    for plugin in registry.plugins:
        given = options.get(plugin.name, {})
        model = load_config_model(plugin)
        if model is None:
            if given:
                problems.append(f"plugins.{plugin.name}: {plugin.distribution} {plugin.version} takes no options")
            continue
        unknown = [key for key in given if key not in model.model_fields]
        known = ", ".join(model.model_fields)
        problems.extend(
            f"unknown setting 'plugins.{plugin.name}.{key}'{near_miss(key, model.model_fields)} (known: {known})"
            for key in unknown
        )
        try:
            values = model.model_validate({key: value for key, value in given.items() if key not in unknown})
        except ValidationError as exc:
            problems.extend(
                f"plugins.{'.'.join(map(str, (plugin.name, *error['loc'])))}: {error['msg']}" for error in exc.errors()
            )
            continue
        checked[plugin.name] = values.model_dump(mode="json")
    if problems:
        raise ConfigError("\n".join(problems))
    return checked


def _by_plugin(options: Mapping[str, Mapping[str, Any]], registry: Registry) -> dict[str, Mapping[str, Any]]:
    """Options by the names of plugins: the merged configuration writes "my-policy" as "my_policy"."""
    names = [plugin.name for plugin in registry.plugins]
    names += [broken.name for broken in registry.broken]
    names += [off.name for off in registry.disabled]
    known = {canonicalize_name(name): name for name in names}
    return {known.get(canonicalize_name(name), name): values for name, values in options.items()}
