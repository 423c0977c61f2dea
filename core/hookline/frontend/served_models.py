"""The names that clients may put into ``model``."""

from __future__ import annotations

import time
from collections.abc import Mapping

from hookline.errors import NotServedError
from hookline.interfaces.api import ModelCard


class ServedModels:
    """The base model and its adapters."""

    def __init__(self, name: str, *, root: str, max_model_len: int, adapters: Mapping[str, str]) -> None:
        """``root`` is the base checkpoint's directory; ``adapters`` maps names to directories."""
        self.name = name
        self.max_model_len = max_model_len
        self._root = root
        self._adapters = dict(adapters)
        self._created = int(time.time())

    def adapter_of(self, name: str | None) -> str | None:
        """The adapter that ``name`` means: ``None`` for the base model, "adapter" or "base:adapter" otherwise.

        Raises ``NotServedError`` listing what is served.
        """
        if name is None or name == self.name:
            return None
        adapter = name.removeprefix(f"{self.name}:")
        if adapter in self._adapters:
            return adapter
        known = ", ".join([self.name, *sorted(self._adapters)])
        raise NotServedError(f"the model '{name:.200}' is not served here (served: {known})", param="model")

    def add_adapter(self, name: str, path: str) -> None:
        """An adapter was loaded."""
        self._adapters[name] = path

    def remove_adapter(self, name: str) -> None:
        """An adapter was unloaded."""
        self._adapters.pop(name, None)

    def cards(self) -> list[ModelCard]:
        """The base model first, then the adapters."""
        base = ModelCard(
            id=self.name, root=self._root, max_model_len=self.max_model_len, parent=None, created=self._created
        )
        return [base] + [
            ModelCard(id=name, root=path, max_model_len=self.max_model_len, parent=self.name, created=self._created)
            for name, path in sorted(self._adapters.items())
        ]
