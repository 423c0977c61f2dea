"""AttentionBackends: makes the attention backends that a plan chose, for the decoder and for an encoder of media."""

from __future__ import annotations

from dataclasses import replace

from hookline.interfaces.attention import AttentionBackend, AttentionEnv
from hookline.plugins.plan import ChosenSpec, PluginPlan
from hookline.worker.hybrid_attention import HybridAttention


class AttentionBackends:
    """Those of one plan. Of two chosen ones the first runs prefills, the second decodes."""

    def __init__(self, plugins: PluginPlan) -> None:
        self._plugins = plugins
        self._specs = [plugins.one("attention_backends"), *plugins.of_kind("attention_backends")[1:2]]

    @property
    def of_decodes(self) -> ChosenSpec:
        """The backend that runs decodes."""
        return self._specs[-1]

    def build(self, env: AttentionEnv) -> AttentionBackend:
        """The decoder's; ``env`` without the plugin's options."""
        backends = [self._load(spec, env) for spec in self._specs]
        return backends[0] if len(backends) == 1 else HybridAttention(env, *backends)

    def build_encoder(self, env: AttentionEnv) -> AttentionBackend | None:
        """One for the heads of an encoder of media: a chosen one, or one that would have done, if it lets tokens see
        later ones."""
        others = [spec for spec in self._plugins.spare if spec.kind == "attention_backends"]
        for spec in [*self._specs, *others]:
            if "mask.full" in spec.features and (not spec.head_dims or env.head_dim in spec.head_dims):
                return self._load(spec, env)
        return None

    def _load(self, spec: ChosenSpec, env: AttentionEnv) -> AttentionBackend:
        backend: AttentionBackend = self._plugins.load(spec)(replace(env, options=self._plugins.options_of(spec)))
        return backend
