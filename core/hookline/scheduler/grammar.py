"""GrammarCompiler: compiles grammars in a few threads, once each, and keeps the latest; GrammarGate waits for it."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from hookline.errors import RequestError
from hookline.scheduler.waits import Gate

if TYPE_CHECKING:
    from hookline.interfaces.grammar import CompiledGrammar, GrammarBackend
    from hookline.scheduler.req import Req

log = logging.getLogger(__name__)

#: What a remembered failure counts for, besides its source.
_FAILURE_BYTES = 256


class CompileJob:
    """One grammar on its way. Written by the compiling thread, then read by the scheduler's."""

    __slots__ = ("error", "grammar", "is_done", "is_stuck", "key", "num_bytes", "num_waiting", "started_at")

    def __init__(self, kind: str, source: str) -> None:
        self.key = (kind, source)
        self.num_waiting = 0
        self.started_at: float | None = None
        self.is_stuck = False
        #: Set last, when one of the two below is.
        self.is_done = False
        self.grammar: CompiledGrammar | None = None
        self.error: RequestError | None = None
        self.num_bytes = 0


class GrammarCompiler:
    """Compiles in ``num_threads`` threads that live while there is work.

    A thread cannot be stopped. One whose grammar takes longer than ``timeout`` is given up and replaced, at
    most ``max_stuck`` times over; the grammar's requests fail, and so do later ones of the same grammar
    until the thread comes back.
    """

    def __init__(
        self,
        make_backend: Callable[[], GrammarBackend],
        *,
        timeout: float,
        max_bytes: int,
        num_threads: int = 2,
        max_stuck: int = 8,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_backend = make_backend
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._num_threads = num_threads
        self._max_stuck = max_stuck
        self._clock = clock
        self._backend: GrammarBackend | None = None
        self._backend_lock = threading.Lock()
        self._lock = threading.Lock()
        # Under the lock: the queue and the number of threads.
        self._queue: deque[CompileJob] = deque()
        self._num_alive = 0
        #: Threads append, the scheduler's thread takes.
        self._finished: deque[CompileJob] = deque()
        # The scheduler's thread only, from here on.
        self._under_way: dict[tuple[str, str], CompileJob] = {}
        self._kept: OrderedDict[tuple[str, str], CompileJob] = OrderedDict()
        self._kept_bytes = 0
        self._num_stuck = 0

    def request(self, kind: str, source: str) -> CompileJob:
        """The job of a grammar: a kept result, one under way, or a new one."""
        self._collect()
        job = self._kept.get((kind, source))
        if job is not None:
            self._kept.move_to_end(job.key)
            return job
        job = self._under_way.get((kind, source))
        if job is None:
            job = self._under_way[kind, source] = CompileJob(kind, source)
            with self._lock:
                self._queue.append(job)
            self._start_thread()
        job.num_waiting += 1
        return job

    def poll(self, job: CompileJob) -> CompiledGrammar | None:
        """The grammar, or ``None`` while it compiles. Raises ``RequestError`` if it never will."""
        self._collect()
        if job.is_done:
            if job.error is not None:
                raise RequestError(
                    str(job.error), param=job.error.param, code=job.error.code, status_code=job.error.status_code
                )
            return job.grammar
        if not job.is_stuck and job.started_at is not None and self._clock() - job.started_at > self._timeout:
            job.is_stuck = True
            self._num_stuck += 1
            log.warning("a %s grammar of %d characters compiles too long", job.key[0], len(job.key[1]))
            self._start_thread()
        if job.is_stuck:
            raise RequestError(
                f"{job.key[0]} did not compile within {self._timeout:g} s; simplify it", param=job.key[0]
            )
        if job.started_at is None and self._num_stuck > self._max_stuck:
            raise RequestError(
                "too many grammars are being compiled; try again later", code="overloaded", status_code=503
            )
        return None

    def leave(self, job: CompileJob) -> None:
        """A waiting request has ended; a grammar that nobody waits for any more is not begun."""
        job.num_waiting -= 1
        if job.num_waiting > 0 or job.is_done:
            return
        with self._lock:
            if job.started_at is None and job in self._queue:
                self._queue.remove(job)
                del self._under_way[job.key]

    def clear(self) -> None:
        """Forget all kept results."""
        self._collect()
        self._kept.clear()
        self._kept_bytes = 0

    def _collect(self) -> None:
        """Keep what threads have finished."""
        while self._finished:
            job = self._finished.popleft()
            del self._under_way[job.key]
            if job.is_stuck:
                self._num_stuck -= 1
            self._kept[job.key] = job
            self._kept_bytes += job.num_bytes
        while self._kept_bytes > self._max_bytes and self._kept:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.num_bytes

    def _start_thread(self) -> None:
        """One more thread, if there is work for it and threads are left."""
        with self._lock:
            limit = self._num_threads + min(self._num_stuck, self._max_stuck)
            if not self._queue or self._num_alive >= limit:
                return
            self._num_alive += 1
        # A daemon, since a compilation that never ends must not keep the process alive.
        threading.Thread(target=self._work, name="grammar-compiler", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._num_alive -= 1
                    return
                job = self._queue.popleft()
                job.started_at = self._clock()
            self._compile(job)
            self._finished.append(job)

    def _compile(self, job: CompileJob) -> None:
        kind, source = job.key
        job.num_bytes = len(source) + _FAILURE_BYTES
        try:
            backend = self._get_backend()
            job.grammar = backend.compile(kind, source)
            job.num_bytes = job.grammar.num_bytes
        except RequestError as error:
            job.error = error
        except Exception as error:
            # Whatever a backend raises over a client's text is the client's error, not the engine's end.
            job.error = RequestError(f"{kind} cannot be compiled: {type(error).__name__}: {error}", param=kind)
        job.is_done = True

    def _get_backend(self) -> GrammarBackend:
        """The backend, made by the first job: reading the vocabulary takes a while."""
        with self._backend_lock:
            if self._backend is None:
                try:
                    self._backend = self._make_backend()
                except Exception as error:
                    log.exception("the grammar backend cannot be made")
                    raise RequestError(
                        f"constrained output does not work here: {error}", code="internal_error", status_code=500
                    ) from error
            return self._backend


class GrammarGate(Gate):
    """Opens when the request's grammar is compiled, and gives it a matcher."""

    def __init__(self, compiler: GrammarCompiler, req: Req, kind: str, source: str) -> None:
        self._compiler = compiler
        self._req = req
        self._job = compiler.request(kind, source)

    def poll(self) -> bool:
        grammar = self._compiler.poll(self._job)
        if grammar is None:
            return False
        self._req.matcher = grammar.matcher()
        return True

    def cancel(self) -> None:
        self._compiler.leave(self._job)


class GrammarGates:
    """The gate source for constrained requests.

    Without a ``compiler`` they are refused, with the words of what is ``missing``.
    """

    def __init__(
        self,
        compiler: GrammarCompiler | None,
        *,
        kinds: frozenset[str] = frozenset(),
        backend_name: str = "",
        missing: str = "",
    ) -> None:
        self.compiler = compiler
        self._kinds = kinds
        self._backend_name = backend_name
        self._missing = missing

    def __call__(self, req: Req) -> Gate | None:
        grammar = req.params.grammar
        if grammar is None or req.pooling is not None:
            return None
        kind, source = grammar
        if self.compiler is None:
            raise RequestError(f"{kind} needs {self._missing}, but this engine has none", param=kind)
        if kind not in self._kinds:
            known = ", ".join(sorted(self._kinds)) or "none"
            raise RequestError(
                f"the grammar backend '{self._backend_name}' does not support {kind} (supported: {known})", param=kind
            )
        return GrammarGate(self.compiler, req, kind, source)
