"""ApiFamilySuite: an API family serves what it declares, to whom it should, and never mixes or loses answers."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, cast

import pytest
from fastapi.routing import APIRoute

from hookline.api.app import create_app
from hookline.api.bodies import IGNORED_HEADER
from hookline.api.families import LoadedFamily
from hookline.api.paths import PathSet
from hookline.config.schema import HooklineConfig
from hookline.errors import PluginError, RequestError
from hookline.interfaces.api import ApiFamilySpec, Serving
from hookline.messages.outputs import FinishReason
from hookline.testkit.api_calls import ApiCall, spoiled
from hookline.testkit.api_session import ApiSession
from hookline.testkit.fake_serving import FakeServing, Reply
from hookline.testkit.in_process import call_and_leave, in_loop, installed_family, run
from hookline.testkit.offer_suite import OfferSuite, in_child, installed

_API_KEY, _ADMIN_KEY = "api-key", "admin-key"
_KEYS = {"api_key": _API_KEY, "admin_key": _ADMIN_KEY, "host": "0.0.0.0"}
#: What the default reply has besides its text.
_VECTOR = [0.6, 0.8]
#: Texts that break careless framing.
_TEXTS = ("Hello there.", 'two\nlines\r\n\n{"a": "\\u2028"} \u2028\x85\0', "naïve 日本 😀", " data: [DONE]\n\n ", "")
_GAVE_UP = FinishReason(type="abort", message="it gave up", status_code=500, code="gave_up")


class ApiFamilySuite(OfferSuite[ApiFamilySpec]):
    """Give an example call for each route; the suite makes all other calls from them."""

    kind = "api_families"

    #: At least one call for each method of each path, of which the tests are made.
    requests: ClassVar[Sequence[ApiCall]] = ()
    #: Fields of the ``FakeServing`` besides its replies: the parsers that the family should meet, say.
    serving: ClassVar[Mapping[str, Any]] = {}
    #: Names of other families in whose place this one serves: their paths may be the same.
    replaces: ClassVar[Collection[str]] = ()
    #: Whether fields of a body that nobody reads are named in a header of the answer, and refused under
    #: ``server.strict_requests``, as ``hookline.api.bodies.check_body`` does.
    reports_unknown_fields: ClassVar[bool] = True
    #: Seconds after which what should have happened counts as not happening.
    patience: ClassVar[float] = 20.0

    # --- what the tests use ---

    @classmethod
    def loaded(cls) -> LoadedFamily:
        """The family as a server loads it, with ``options``."""
        spec = cls.offer().spec
        if cls.offer().plugin:
            return installed_family(spec.name, {cls.offer().plugin: cls.options} if cls.options else None)
        return LoadedFamily(
            name=spec.name,
            distribution="(none)",
            target=cls.target(),
            paths=frozenset(spec.paths),
            admin_paths=frozenset(spec.admin_paths),
            open_paths=frozenset(spec.open_paths),
        )

    @classmethod
    def session(cls, *replies: Reply, key: str | None = None, **server: Any) -> AbstractAsyncContextManager[ApiSession]:
        """The family alone, over a fake engine that gives ``replies`` (the default one if none)."""
        fake = FakeServing(replies=list(replies) or [Reply(embedding=_VECTOR)], **cls.serving)
        return ApiSession.open(cls.loaded(), fake, key=key, **server)

    @classmethod
    def operations(cls) -> list[tuple[str, set[str]]]:
        """(path, methods) of the family's routes, in the order in which they are tried."""
        router = cls.loaded().make(cast(Serving, FakeServing())).router
        return [(route.path, route.methods or set()) for route in cast(list[APIRoute], router.routes)]

    @classmethod
    def calls(cls) -> list[ApiCall]:
        """All examples, streamed ones too."""
        pairs = [(call, call.streamed) for call in cls.requests]
        return [call for pair in pairs for call in pair if call is not None]

    @classmethod
    def generating(cls) -> list[ApiCall]:
        """Those that make the engine work; found out by making them."""
        return list(_generating(cls))  # type: ignore[arg-type]  # mypy: of a class it sees __hash__ of instances

    @classmethod
    def streamed(cls) -> list[ApiCall]:
        """Those with an answer in a stream."""
        return [
            call
            for example in cls.requests
            for call in (example, example.streamed)
            if call is not None and (call.is_stream or call is example.streamed)
        ]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "call" in metafunc.fixturenames:
            calls = self.calls()
            metafunc.parametrize("call", calls, ids=[f"{call.method}{call.path}-{i}" for i, call in enumerate(calls)])

    # --- routes ---

    def test_serves_the_paths_that_it_declares(self) -> None:
        try:
            self.operations()
        except PluginError as exc:
            pytest.fail(str(exc))

    def test_has_an_example_of_each_route(self) -> None:
        routes = {(method, path) for path, methods in self.operations() for method in methods}
        missing = {
            f"{method} {path}"
            for method, path in routes
            if not any(call.method == method and _path_of(call) in PathSet([path]) for call in self.calls())
        }
        assert missing == set(), "add an ApiCall to `requests` for each of these"

    def test_shadows_no_route_of_others(self) -> None:
        """Neither of the other installed families nor of the application itself."""
        mine = self.loaded()
        serving = cast(Serving, FakeServing())
        for offer in installed().offers(ApiFamilySpec):
            name = offer.spec.name
            if name == mine.name or name in self.replaces:
                continue
            try:
                create_app(serving, [installed_family(name)], HooklineConfig())
            except PluginError:
                continue  # broken by itself, which is not this family's fault
            try:
                create_app(serving, [mine, installed_family(name)], HooklineConfig())
            except PluginError as exc:
                pytest.fail(f"{exc} (or say that this family `replaces` the other)")

    def test_each_path_is_answered_by_its_own_route(self) -> None:
        """Of two routes that match, the first is taken: one with a parameter must not stand before a fixed one."""
        operations = self.operations()
        for index, (path, methods) in enumerate(operations):
            for earlier, others in operations[:index]:
                if methods & others and "{" not in path:
                    assert path not in PathSet([earlier]), f"{earlier} catches requests for {path}"

    @in_loop
    async def test_examples_are_answered(self, call: ApiCall) -> None:
        async with self.session() as session:
            await session.expect(call)

    @in_loop
    async def test_serving_is_called_on_the_event_loop(self, call: ApiCall) -> None:
        """FastAPI runs handlers that are not ``async def`` in threads."""
        async with self.session() as session:
            await session.ask(call)
        assert session.strays == set(), "called from another thread"

    def test_target_imports_no_torch(self) -> None:
        """The server's process has none of it."""
        module = self.offer().spec.target.partition(":")[0]
        assert in_child(f"import sys, {module}; print('torch' in sys.modules)").strip() == "False"

    # --- keys ---

    @in_loop
    async def test_needs_the_key_but_for_open_paths(self, call: ApiCall) -> None:
        is_open = _path_of(call) in PathSet(self.offer().spec.open_paths)
        for key in (None, "wrong"):
            async with self.session(key=key, api_key=_API_KEY) as session:
                answer = await session.ask(call)
            if not is_open:
                assert answer.status_code == 401
                assert session.serving.requests == []
        async with self.session(key=_API_KEY, api_key=_API_KEY) as session:
            await session.expect(call)

    @in_loop
    async def test_control_needs_the_admin_key(self, call: ApiCall) -> None:
        async with self.session(key=_API_KEY, **_KEYS) as session:
            answer = await session.ask(call)
        if _path_of(call) in PathSet(self.offer().spec.admin_paths):
            assert answer.status_code == 403
        told = [method for method, _ in session.serving.control_calls]
        told += ["abort all requests" for _, everything in session.serving.abort_calls if everything]
        assert told == [], "controls the engine without the admin key; see ApiFamilySpec.admin_paths"
        async with self.session(key=_ADMIN_KEY, **_KEYS) as session:
            await session.expect(call)

    @in_loop
    async def test_open_paths_generate_nothing(self) -> None:
        for call in self.generating():
            assert _path_of(call) not in PathSet(self.offer().spec.open_paths), f"{call}: anybody may make it work"

    # --- errors ---

    @in_loop
    async def test_errors_of_the_request_have_their_status(self) -> None:
        error = RequestError("not like this", status_code=422, code="not_so", param="prompt")
        for call in self.generating():
            async with self.session(Reply(error=error)) as session:
                answer = await session.ask(call)
            assert answer.status_code == 422, f"{call}: {answer.text}"
            assert "not like this" in answer.text, call

    @in_loop
    async def test_a_choice_that_the_engine_gives_up_is_an_error(self) -> None:
        for call in self.generating():
            async with self.session(Reply(text="alpha", finish=_GAVE_UP)) as session:
                answer = await session.ask(call)
            # A stream has begun, if its first piece came before.
            assert answer.status_code == 500 or call in self.streamed(), f"{call}: {answer.text}"
            assert "it gave up" in answer.text, call

    @in_loop
    async def test_faults_of_the_server_are_not_told_in_detail(self) -> None:
        for call in self.generating():
            async with self.session(Reply(error=KeyError("a secret"))) as session:
                answer = await session.ask(call)
            assert answer.status_code == 500, f"{call}: {answer.text}"
            assert "a secret" not in answer.text, call

    @in_loop
    async def test_bodies_that_are_no_json_object_are_refused(self, call: ApiCall) -> None:
        if call.body is None:
            pytest.skip("has no body")
        async with self.session() as session:
            for content in (b"{", b'{"a": 1,}', b'{"a": "\xff"}', b"[1]", b'"text"', b"[" * 100_000, b"null", b""):
                answer = await session.client.request(**call.with_body(content))
                # Some calls need no body at all.
                allowed = range(200 if content in (b"null", b"") else 400, 500)
                assert answer.status_code in allowed, f"{content[:20]!r}: {answer.text}"

    @in_loop
    async def test_junk_in_a_body_is_never_a_fault_of_the_server(
        self, call: ApiCall, caplog: pytest.LogCaptureFixture
    ) -> None:
        if call.body is None:
            pytest.skip("has no body")
        async with self.session() as session:
            for body in spoiled(call.body):
                answer = await session.client.request(**call.with_body(body))
                assert answer.status_code < 500, f"{body}: {answer.text}"
                faults = [record for record in caplog.records if record.name == "hookline.api.errors"]
                assert faults == [], f"{body} failed inside the server: {answer.text}"

    @in_loop
    async def test_fields_that_nobody_reads_are_reported(self, call: ApiCall) -> None:
        if not self.reports_unknown_fields or not isinstance(call.body, dict):
            pytest.skip("does not say that it reports unknown fields" if call.body else "has no body")
        wrong = call.with_body({**call.body, "unheard_of": 1})
        async with self.session() as session:
            answer = await session.client.request(**wrong)
        assert answer.status_code in range(400, 500) or "unheard_of" in answer.headers.get(IGNORED_HEADER, ""), (
            "dropped in silence; see hookline.api.bodies.check_body"
        )
        async with self.session(strict_requests=True) as session:
            assert (await session.client.request(**wrong)).status_code in range(400, 500)
            await session.expect(call)

    @in_loop
    async def test_oversized_bodies_are_refused(self, call: ApiCall) -> None:
        if not isinstance(call.body, dict):
            pytest.skip("has no body")
        large = call.with_body({**call.body, "unheard_of": "x" * 4096})
        whole = large["content"]

        async def in_pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(whole), 512):
                yield whole[start : start + 512]

        async with self.session(max_request_bytes=2048) as session:
            for content in (whole, in_pieces()):
                assert (await session.client.request(**{**large, "content": content})).status_code == 413
        assert session.serving.requests == []

    # --- answers ---

    @in_loop
    async def test_a_client_that_leaves_aborts_its_choices(self) -> None:
        """Before the first piece, and in the middle of a stream."""
        for call in self.generating():
            async with self.session(Reply(break_after=0, embedding=_VECTOR)) as session:
                await self._leave(session, call, session.serving.hanging)
        for call in self.streamed():
            async with self.session(Reply(pieces=["alpha ", "beta"], break_after=1)) as session:
                await self._leave(session, call, b"alpha")

    @in_loop
    async def test_streams_are_sent_while_they_come(self) -> None:
        for call in self.streamed():
            async with self.session(Reply(pieces=["alpha ", "beta ", "gamma"], break_after=2)) as session:
                await self._leave(session, call, b"alpha")

    async def _leave(self, session: ApiSession, call: ApiCall, leave: asyncio.Event | bytes) -> None:
        try:
            await call_and_leave(
                session.app,
                call.path,
                call.body,
                leave=leave,
                method=call.method,
                headers=call.headers,
                patience=self.patience / 2,
            )
        except TimeoutError:
            what = "what has come already is not sent" if isinstance(leave, bytes) else "nothing is generated"
            pytest.fail(f"{call}: the answer goes on after its client left, or {what}")
        assert len(session.serving.aborted) == len(session.serving.requests), f"{call}: Serving.generate was not closed"

    @in_loop
    async def test_streamed_and_whole_answers_agree(self) -> None:
        """Both are what the engine gave."""
        for call in self.calls():
            if call.text is None or call not in self.generating():
                continue
            for text in _TEXTS:
                async with self.session(Reply(text=text)) as session:
                    answer = await session.expect(call)
                assert call.text(answer) == text, call

    @in_loop
    async def test_a_failure_in_mid_stream_is_told_and_ends_the_stream(self) -> None:
        pieces = ["alpha ", "beta ", "gamma"]
        for call in self.streamed():
            for reply, message in (
                (Reply(pieces=pieces, break_after=2, failure=RequestError("gave way")), "gave way"),
                (Reply(pieces=pieces[:2], finish=_GAVE_UP), "it gave up"),
                (Reply(pieces=pieces, break_after=2, failure=KeyError("a secret")), ""),
            ):
                async with self.session(reply) as session:
                    answer = await session.ask(call)
                assert "alpha" in answer.text, f"{call}: what came before the failure is lost"
                assert re.search("error|fail|fault", answer.text, re.I), f"{call}: {answer.text}"
                assert message in answer.text, call
                assert "gamma" not in answer.text, call
                assert "a secret" not in answer.text, call

    @in_loop
    async def test_answers_at_a_time_do_not_mix(self) -> None:
        calls = [call for call in self.generating() if call.text is not None] * 6
        texts = {f"call-{i}": f"answer {i}: " + f"{i}" * i for i in range(len(calls))}
        async with self.session() as session:
            session.serving.replies_to = {name: Reply(text=text) for name, text in texts.items()}
            asked = (session.ask(call, name) for call, name in zip(calls, texts, strict=True))
            answers = await asyncio.gather(*asked)
        for call, answer, text in zip(calls, answers, texts.values(), strict=True):
            assert call.text is not None
            assert call.text(answer) == text, call

    @in_loop
    async def test_a_slow_answer_holds_no_other_back(self) -> None:
        for call in self.generating():
            async with self.session() as session:
                release = asyncio.Event()
                session.serving.replies_to = {"slow": Reply(break_after=0, release=release, embedding=_VECTOR)}
                slow = asyncio.create_task(session.ask(call, "slow"))
                await session.serving.hanging.wait()
                for other in self.calls():
                    try:
                        async with asyncio.timeout(self.patience / 2):
                            await session.expect(other)
                    except TimeoutError:
                        pytest.fail(f"{other} waits for {call}")
                assert not slow.done()
                release.set()
                assert (await slow).status_code == call.status


@functools.cache
def _generating(suite: type[ApiFamilySuite]) -> tuple[ApiCall, ...]:
    async def found() -> tuple[ApiCall, ...]:
        calls = []
        for call in suite.calls():
            async with suite.session() as session:
                await session.ask(call)
            if session.serving.requests:
                calls.append(call)
        return tuple(calls)

    return run(found, patience=suite.patience)


def _path_of(call: ApiCall) -> str:
    return call.path.partition("?")[0]
