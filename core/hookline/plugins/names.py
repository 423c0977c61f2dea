"""Names in messages: the nearest known name, and the package that would bring a missing one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

#: Offers and options of known distributions: a word that a user may type -> the distribution to install.
#: Only names that cannot be guessed as ``hookline-<name>`` need an entry.
KNOWN_PACKAGES: Mapping[str, str] = MappingProxyType(
    {
        "torch_native": "hookline-attention",
        "default": "hookline-schedulers",
        "fcfs": "hookline-schedulers",
        "lpm": "hookline-schedulers",
        "dfs-weight": "hookline-schedulers",
        "lof": "hookline-schedulers",
        "random": "hookline-schedulers",
        "priority": "hookline-schedulers",
        "xgrammar": "hookline-grammar",
        "think": "hookline-parsers",
        "qwen25": "hookline-parsers",
        "native": "hookline-api",
        "openai": "hookline-api",
        "torch": "hookline-lora",
        "last": "hookline-models",
        "cls": "hookline-models",
        "mean": "hookline-models",
        "web": "hookline-media",
        "inline": "hookline-media",
        "files": "hookline-media",
    }
)


def near_miss(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"``, or ``""`` when nothing is near."""
    lowered = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), list(lowered), n=1)
    return f"; did you mean '{lowered[near[0]]}'?" if near else ""


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """One sentence for a name that nobody knows: the near miss, then all known names."""
    known = sorted(known)
    return f"unknown {what} '{name}'{near_miss(name, known)} (known: {', '.join(known) or 'none'})"


def package_for(name: str) -> str:
    """The distribution that most likely brings a missing plugin or offer."""
    return KNOWN_PACKAGES.get(name, f"hookline-{name.replace('_', '-')}")
