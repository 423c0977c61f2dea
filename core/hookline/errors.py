"""Every error that Hookline raises on purpose.

    HooklineError
    ├── ConfigError              a setting is unknown, of the wrong type, or conflicts with another
    ├── PluginError              a plugin is missing, broken, of the wrong version, or ambiguous
    │   └── ResolutionError      no candidate fits; carries every refusal
    ├── ModelError               a checkpoint is missing, corrupt, or of an unknown architecture
    ├── MemoryBudgetError        weights, KV cache or activations do not fit; says which and by how much
    ├── EngineDeadError          a process of the engine has ended; carries its cause
    └── RequestError             one request is at fault; it alone fails (has an HTTP status)
        ├── ContextLengthError   prompt or prompt plus output is longer than the context
        ├── NotServedError       the named model or adapter is not served here (404)
        ├── OverloadedError      the queue is full, or the server drains (503)
        └── RequestAbortedError  the client or an operator cancelled the request

    HooklineDeprecationWarning   a plugin uses something that the next minor release refuses

A message says what was given, what is allowed, and what to do.
"""

from __future__ import annotations


class HooklineError(Exception):
    """Base of all errors below."""


class HooklineDeprecationWarning(DeprecationWarning):
    """A plugin uses something that goes away; the message names the plugin, the release, and what to do."""


class ConfigError(HooklineError):
    """A setting is unknown, has the wrong type, or conflicts with another one."""


class PluginError(HooklineError):
    """A plugin is missing, broken, of the wrong version, or ambiguous."""


class ResolutionError(PluginError):
    """No candidate of a kind fits. ``refusals`` maps each candidate's name to its reasons."""

    def __init__(self, message: str, refusals: dict[str, tuple[str, ...]] | None = None) -> None:
        super().__init__(message)
        self.refusals = refusals or {}


class ModelError(HooklineError):
    """A checkpoint is missing, corrupt, incomplete, or of an unknown architecture."""


class MemoryBudgetError(HooklineError):
    """The memory ledger does not add up; the message names the term and the largest value that fits."""


class EngineDeadError(HooklineError):
    """A process of the engine has ended; the message holds its cause."""


class RequestError(HooklineError, ValueError):
    """One request is at fault: it fails, nothing else does.

    ``status_code`` is the HTTP status, ``code`` a short machine-readable word,
    ``param`` the request field at fault, where there is one.
    """

    status_code = 400
    code: str = "invalid_request"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status_code: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code
        if status_code is not None:
            self.status_code = status_code


class ContextLengthError(RequestError):
    """The prompt, or the prompt plus the asked output, is longer than the context."""

    code = "context_length_exceeded"


class NotServedError(RequestError):
    """The named model or adapter is not served here."""

    status_code = 404
    code = "model_not_found"


class OverloadedError(RequestError):
    """The queue is full or the server is draining; the client may try again later."""

    status_code = 503
    code = "overloaded"


class RequestAbortedError(RequestError):
    """The client or an operator cancelled the request."""

    status_code = 499
    code = "aborted"
