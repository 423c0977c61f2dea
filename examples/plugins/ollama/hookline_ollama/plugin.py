"""Table of contents: what hookline-ollama offers. Imports neither FastAPI nor any implementation."""

from __future__ import annotations

from hookline import hookimpl
from hookline.interfaces.api import ApiFamilySpec
from hookline.interfaces.spec import PluginInfo

PLUGIN = PluginInfo(
    name="ollama",
    provides=("api_families",),
    config_model="hookline_ollama.options:Options",
    summary="the Ollama API",
)


@hookimpl
def hookline_api_families() -> list[ApiFamilySpec]:
    return [
        ApiFamilySpec(
            name="ollama",
            target="hookline_ollama.family:OllamaFamily",
            summary="the Ollama API: chat, generate, embed, tags, show, ps, version",
            paths=(
                "/",
                "/api/chat",
                "/api/generate",
                "/api/embed",
                "/api/tags",
                "/api/show",
                "/api/ps",
                "/api/version",
            ),
        )
    ]
