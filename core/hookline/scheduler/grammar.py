"""GrammarCompiler: compiles grammars in a few threads, once each, and keeps the latest; GrammarGate waits for it."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from hookline.errors import RequestError
from hookline.scheduler.grammar_steps import BoundedMatcher
from hookline.scheduler.waits import Gate

if TYPE_CHECKING:
    from hookline.interfaces.grammar import CompiledGrammar
    from hookline.scheduler.grammar_chain import BackendChain
    from hookline.scheduler.grammar_makers import GrammarMaker
    from hookline.scheduler.req import Req
    from hookline.scheduler.thinking import ThinkingMatchers

log = logging.getLogger(__name__)

#: What a remembered failure counts for, besides its source.
_FAILURE_BYTES = 256


class CompileJob:
    """One grammar on its way. Written by the compiling thread, then read by the scheduler's."""

    __slots__ = (
        "error",
        "give_up",
        "grammar",
        "is_done",
        "is_given_up",
        "is_stuck",
        "key",
        "num_bytes",
        "num_waiting",
        "queued_at",
        "started_at",
    )

    def __init__(self, kind: str, source: str, queued_at: float) -> None:
        self.key = (kind, source)
        self.num_waiting = 0
        self.queued_at = queued_at
        self.started_at: float | None = None
        self.is_stuck = False
        #: Nobody waits for it any more: what comes of it is dropped.
        self.is_given_up = False
        #: Has its compilation killed, where that can be done.
        self.give_up: Callable[[], None] | None = None
        #: Set last, when one of the two below is.
        self.is_done = False
        self.grammar: CompiledGrammar | None = None
        self.error: RequestError | None = None
        self.num_bytes = 0


class GrammarCompiler:
    """Compiles in ``num_threads`` threads that live while there is work.

    A thread cannot be stopped. One whose grammar takes longer than ``timeout`` and the maker's grace is given up
    and replaced, at most ``max_stuck`` times over; the grammar's requests fail, and so do later ones of the same
    grammar until the thread comes back. A grammar that waits longer than ``timeout`` for a thread fails too.
    """

    def __init__(
        self,
        maker: GrammarMaker,
        *,
        timeout: float,
        max_bytes: int,
        num_threads: int = 2,
        max_stuck: int = 8,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._maker = maker
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._num_threads = num_threads
        self._max_stuck = max_stuck
        self._clock = clock
        self._lock = threading.Lock()
        # Under the lock: the queue and the number of threads.
        self._queue: deque[CompileJob] = deque()
        self._num_alive = 0
        #: When the maker was ready: what waited for that was not kept waiting by other grammars.
        self._ready_at: float | None = None
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
            job = self._under_way[kind, source] = CompileJob(kind, source, self._clock())
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
        if job.started_at is None:
            self._check_queue(job)
            return None
        if not job.is_stuck and self._clock() - job.started_at > self._timeout + self._maker.grace:
            job.is_stuck = True
            self._num_stuck += 1
            log.warning("a %s grammar of %d characters compiles too long", job.key[0], len(job.key[1]))
            self._start_thread()
        if job.is_stuck:
            raise RequestError(
                f"{job.key[0]} did not compile within {self._timeout:g} s; simplify it", param=job.key[0]
            )
        return None

    def leave(self, job: CompileJob) -> None:
        """A waiting request has ended; a grammar that nobody waits for any more is not begun, or given up."""
        job.num_waiting -= 1
        if job.num_waiting > 0 or job.is_done or job.is_stuck or job.is_given_up:
            return
        with self._lock:
            job.is_given_up = True
            if job in self._queue:
                self._queue.remove(job)
            give_up = job.give_up
        del self._under_way[job.key]
        if give_up is not None:
            give_up()

    def clear(self) -> None:
        """Forget all kept results."""
        self._collect()
        self._kept.clear()
        self._kept_bytes = 0

    def _check_queue(self, job: CompileJob) -> None:
        ready_at = self._ready_at
        waited = 0.0 if ready_at is None else self._clock() - max(job.queued_at, ready_at)
        if self._num_stuck > self._max_stuck or waited > self._timeout:
            raise RequestError(
                "too many grammars are being compiled; try again later", code="overloaded", status_code=503
            )

    def _collect(self) -> None:
        """Keep what threads have finished."""
        while self._finished:
            job = self._finished.popleft()
            if job.is_stuck:
                self._num_stuck -= 1
            if job.is_given_up:
                continue
            del self._under_way[job.key]
            if job.error is not None and job.error.status_code >= 500:
                # Not the grammar's fault: another try may go well.
                continue
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
        failure = self._prepare()
        while True:
            with self._lock:
                if not self._queue:
                    self._num_alive -= 1
                    return
                job = self._queue.popleft()
                job.started_at = self._clock()
            if failure is None:
                self._compile(job)
            else:
                job.error = failure
                job.is_done = True
            self._finished.append(job)

    def _prepare(self) -> RequestError | None:
        """Why nothing can be compiled. Making the backends takes a while: a vocabulary is read."""
        try:
            self._maker.prepare()
        except RequestError as error:
            return error
        except Exception as error:
            log.exception("grammars cannot be compiled")
            return RequestError(
                f"constrained output does not work here: {error}", code="internal_error", status_code=500
            )
        if self._ready_at is None:
            self._ready_at = self._clock()
        return None

    def _compile(self, job: CompileJob) -> None:
        kind, source = job.key
        job.num_bytes = len(source) + _FAILURE_BYTES

        def on_start(give_up: Callable[[], None]) -> None:
            with self._lock:
                job.give_up = give_up
                is_given_up = job.is_given_up
            if is_given_up:
                give_up()

        try:
            job.grammar = self._maker.make(kind, source, on_start)
            job.num_bytes += job.grammar.num_bytes
        except RequestError as error:
            job.error = error
        except Exception as error:
            # Whatever a backend raises over a client's text is the client's error, not the engine's end.
            job.error = RequestError(f"{kind} cannot be compiled: {type(error).__name__}: {error}", param=kind)
        job.is_done = True


class GrammarGate(Gate):
    """Opens when the request's grammar is compiled, and gives it a matcher."""

    def __init__(self, compiler: GrammarCompiler, req: Req, kind: str, source: str, step_timeout: float) -> None:
        self._compiler = compiler
        self._req = req
        self._step_timeout = step_timeout
        self._job = compiler.request(kind, source)

    def poll(self) -> bool:
        grammar = self._compiler.poll(self._job)
        if grammar is None:
            return False
        self._req.matcher = BoundedMatcher(grammar.matcher(), self._step_timeout)
        return True

    def cancel(self) -> None:
        self._compiler.leave(self._job)


class ThinkingGate(Gate):
    """Opens when the request can be followed through its reasoning, behind which its grammar begins, if it has one."""

    def __init__(self, thinking: ThinkingMatchers, req: Req, grammar: Gate | None) -> None:
        self._thinking = thinking
        self._req = req
        self._grammar = grammar

    def poll(self) -> bool:
        is_ready = self._thinking.is_ready()
        if self._grammar is not None:
            if not self._grammar.poll():
                return False
            self._grammar = None
        if not is_ready:
            return False
        self._req.matcher = self._thinking.matcher(self._req, self._req.matcher)
        return True

    def cancel(self) -> None:
        if self._grammar is not None:
            self._grammar.cancel()


class GrammarGates:
    """The gate source for constrained requests.

    Without a ``compiler`` they are refused, with the words of what is ``missing``.
    """

    def __init__(
        self,
        compiler: GrammarCompiler | None,
        chain: BackendChain | None = None,
        *,
        thinking: ThinkingMatchers | None = None,
        step_timeout: float = 1.0,
        missing: str = "",
    ) -> None:
        """``chain``: what the compiler compiles with. ``step_timeout`` in seconds of processor time."""
        self.compiler = compiler
        self._chain = chain
        self._thinking = thinking
        self._step_timeout = step_timeout
        self._missing = missing

    def __call__(self, req: Req) -> Gate | None:
        if req.pooling is not None:
            return None
        gate = self._grammar_gate(req)
        if req.request.reasoning is None:
            return gate
        if self._thinking is None:
            raise RequestError(
                "max_thinking_tokens needs a tokenizer (skip_tokenizer_init)", param="max_thinking_tokens"
            )
        return ThinkingGate(self._thinking, req, gate)

    def _grammar_gate(self, req: Req) -> GrammarGate | None:
        grammar = req.params.grammar
        if grammar is None:
            return None
        kind, source = grammar
        if self.compiler is None:
            raise RequestError(f"{kind} needs {self._missing}, but this engine has none", param=kind)
        if self._chain is not None:
            self._chain.check_kind(kind)
        return GrammarGate(self.compiler, req, kind, source, self._step_timeout)
