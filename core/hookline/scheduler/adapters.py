"""AdapterTable: which LoRA adapter sits in which slot, and who uses it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from hookline.errors import NotServedError, RequestError

if TYPE_CHECKING:
    from hookline.interfaces.worker import Worker


class Adapter:
    """A loaded adapter. ``id`` is never used twice, so that KV of an old adapter meets no new one."""

    __slots__ = ("id", "is_leaving", "name", "num_users", "slot")

    def __init__(self, name: str, slot: int, ident: str) -> None:
        self.name = name
        self.slot = slot
        self.id = ident
        self.num_users = 0
        #: No new request may use it; the slot is freed with the last user.
        self.is_leaving = False


class AdapterTable:
    """Slots 1 ... ``max_loras`` of the worker; slot 0 is the base model."""

    def __init__(self, worker: Worker, max_loras: int) -> None:
        self._worker = worker
        self._max_loras = max_loras
        self._by_name: dict[str, Adapter] = {}
        self._free_slots = list(range(max_loras, 0, -1))
        self._num_loaded = 0

    @property
    def names(self) -> list[str]:
        """Adapters that requests may name."""
        return list(self._by_name)

    def load(self, name: str, path: Path) -> Adapter:
        """Load an adapter; ``RequestError`` if the name is taken or no slot is free."""
        if name in self._by_name:
            raise RequestError(f"an adapter named '{name}' is loaded already; unload it first", param="name")
        if not self._free_slots:
            raise RequestError(
                f"all {self._max_loras} adapter slots are taken (lora.max_loras); unload one of: "
                f"{', '.join(self._by_name) or 'none, the last ones are still in use'}"
            )
        self._worker.load_adapter(self._free_slots[-1], name, path)
        self._num_loaded += 1
        adapter = self._by_name[name] = Adapter(name, self._free_slots.pop(), f"{name}#{self._num_loaded}")
        return adapter

    def unload(self, name: str) -> int:
        """Refuse new requests for an adapter and free its slot once nobody uses it; returns the users left."""
        adapter = self._find(name)
        del self._by_name[name]
        adapter.is_leaving = True
        if not adapter.num_users:
            self._free(adapter)
        return adapter.num_users

    def acquire(self, name: str) -> Adapter:
        """The adapter of a new request; ``NotServedError`` listing the known ones otherwise."""
        adapter = self._find(name)
        adapter.num_users += 1
        return adapter

    def release(self, adapter: Adapter) -> None:
        """A request has ended."""
        adapter.num_users -= 1
        if adapter.is_leaving and not adapter.num_users:
            self._free(adapter)

    def _find(self, name: str) -> Adapter:
        adapter = self._by_name.get(name)
        if adapter is None:
            near = difflib.get_close_matches(name, self._by_name, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            known = ", ".join(self._by_name) or "none"
            raise NotServedError(f"no adapter '{name}' is loaded{hint} (loaded: {known})", param="lora")
        return adapter

    def _free(self, adapter: Adapter) -> None:
        self._worker.unload_adapter(adapter.slot)
        self._free_slots.append(adapter.slot)
