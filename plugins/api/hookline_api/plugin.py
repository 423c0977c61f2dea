"""Table of contents of hookline-api: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline import hookimpl
from hookline.interfaces.api import ApiFamilySpec
from hookline.interfaces.spec import PluginInfo

PLUGIN = PluginInfo(
    name="api",
    provides=("api_families",),
    config_model="hookline_api.options:ApiOptions",
    summary="native, OpenAI and Anthropic HTTP routes",
)


@hookimpl
def hookline_api_families() -> list[ApiFamilySpec]:
    """The families that are on by default."""
    return [
        ApiFamilySpec(
            name="native",
            target="hookline_api.native.family:NativeFamily",
            summary="Hookline's own routes: /generate, /encode, health, metrics and control",
            paths=(
                "/generate",
                "/encode",
                "/tokenize",
                "/detokenize",
                "/parse_function_call",
                "/separate_reasoning",
                "/abort_request",
                "/flush_cache",
                "/update_weights_from_disk",
                "/release_memory_occupation",
                "/resume_memory_occupation",
                "/live",
                "/ready",
                "/health",
                "/metrics",
                "/server_info",
                "/plugins",
            ),
            admin_paths=(
                "/flush_cache",
                "/update_weights_from_disk",
                "/release_memory_occupation",
                "/resume_memory_occupation",
            ),
            open_paths=("/live", "/ready", "/health", "/metrics"),
        ),
        ApiFamilySpec(
            name="openai",
            target="hookline_api.openai.family:OpenAIFamily",
            summary="the OpenAI API: models, chat, completions, embeddings",
            paths=(
                "/v1/models",
                "/v1/models/{model:path}",
                "/v1/chat/completions",
                "/v1/completions",
                "/v1/embeddings",
            ),
        ),
        ApiFamilySpec(
            name="responses",
            target="hookline_api.responses.family:ResponsesFamily",
            summary="the OpenAI API: responses, with their conversations kept for a while",
            paths=("/v1/responses", "/v1/responses/{response_id}", "/v1/responses/{response_id}/cancel"),
        ),
        ApiFamilySpec(
            name="anthropic",
            target="hookline_api.anthropic.family:AnthropicFamily",
            summary="the Anthropic API: messages and the counting of their tokens",
            paths=("/v1/messages", "/v1/messages/count_tokens"),
        ),
    ]
