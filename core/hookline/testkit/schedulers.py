"""BatchSchedulerSuite: a scheduler serves every request, to the token, whatever comes, in whatever memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookline.config.schema import HooklineConfig
from hookline.interfaces.scheduling import BatchScheduler, SchedulerEnv, SchedulerSpec
from hookline.testkit.fake_tokens import expected_output
from hookline.testkit.fake_view import FakeReq, FakeView
from hookline.testkit.offer_suite import OfferSuite
from hookline.testkit.orders import ArrivalOrder
from hookline.testkit.plans import chosen_offer
from hookline.testkit.properties import examples
from hookline.testkit.replay import passes_in_two_processes
from hookline.testkit.scheduling import VOCAB_SIZE, talkative_prompts
from hookline.testkit.workloads import ORDERS, Bench, Job, SchedulerUnderTest, Workload, workloads

both_loops = pytest.mark.parametrize("overlap", [True, False], ids=["overlap", "no overlap"])
with_and_without_cache = pytest.mark.parametrize("cache", [True, False], ids=["cache", "no cache"])


class BatchSchedulerSuite(OfferSuite[SchedulerSpec]):
    """Runs the scheduler in a whole engine on a fake device, whose ledger is checked after every step.

    A plan that core refuses fails the test with core's sentence. Add tests of your own for what your scheduler
    promises: ``bench`` runs a workload, ``scheduler`` makes one to ask with a ``FakeView``.
    """

    kind = "schedulers"

    #: Values of the config section ``schedule`` that the scheduler is run with. Others vary.
    schedule: ClassVar[Mapping[str, Any]] = {}
    #: Names of installed policies that it is run with, besides those of the testkit.
    policies: ClassVar[Sequence[str]] = ()
    #: Passes in a row that may do nothing while requests wait or run.
    max_idle_passes: ClassVar[int] = 8
    #: Whether a request that came first runs in the end, however many come after it. False for a scheduler that
    #: is meant to let some wait for ever.
    prevents_starvation: ClassVar[bool] = True

    # --- what the tests use ---

    @classmethod
    def under_test(cls) -> SchedulerUnderTest:
        offer = cls.offer()
        config_models = {}
        if offer.plugin and (model := cls.plugin().info.config_model) is not None:
            config_models[offer.plugin] = model
        return SchedulerUnderTest(
            spec=chosen_offer(offer),
            schedule=dict(cls.schedule),
            options={offer.plugin: dict(cls.options)} if cls.options else {},
            config_models=config_models,
            may_mix="mixed" in offer.spec.imposes.get("attention_backends", ()),
            max_idle_passes=cls.max_idle_passes,
        )

    @classmethod
    def bench(cls, checkpoint: Path, workload: Workload) -> Bench:
        """An engine with the scheduler; the fixture ``fake_checkpoint`` gives the checkpoint."""
        return Bench(checkpoint, cls.under_test(), workload)

    @classmethod
    def scheduler(cls, *, page_size: int = 1, num_slots: int = 1000, chunk: int | None = None) -> BatchScheduler:
        """A scheduler without an engine."""
        scheduler = cls.target()(
            SchedulerEnv(
                policy=ArrivalOrder(),
                config=HooklineConfig.model_validate({"schedule": dict(cls.schedule)}).schedule,
                max_running_requests=100,
                max_total_tokens=num_slots,
                page_size=page_size,
                chunked_prefill_size=chunk,
                max_prefill_tokens=16384,
                seed=0,
                options=cls.checked_options(),
            )
        )
        assert isinstance(scheduler, BatchScheduler), "the target must be a subclass of BatchScheduler"
        return scheduler

    # --- everything at once ---

    @examples(60)
    @given(data=st.data())
    def test_every_request_ends_with_exactly_its_tokens(self, data: st.DataObject, fake_checkpoint: Path) -> None:
        workload = data.draw(workloads([*ORDERS, *self.policies]))
        bench = self.bench(fake_checkpoint, workload)
        bench.run()
        bench.check_output()

    @examples(20)
    @given(data=st.data())
    def test_a_replay_makes_the_same_passes(self, data: st.DataObject, fake_checkpoint: Path) -> None:
        workload = data.draw(workloads([*ORDERS, *self.policies]))
        first, second = self.bench(fake_checkpoint, workload), self.bench(fake_checkpoint, workload)
        first.run()
        second.run()
        assert first.passes == second.passes

    def test_every_process_makes_the_same_passes(self, fake_checkpoint: Path) -> None:
        """Ranks plan for themselves: no clock, no chance, no order of a set."""
        first, second = passes_in_two_processes(self.under_test(), fake_checkpoint, [*ORDERS, *self.policies])
        assert first == second

    # --- memory ---

    @both_loops
    @with_and_without_cache
    @pytest.mark.parametrize(("page_size", "num_slots"), [(1, 128), (16, 256)])
    def test_running_out_of_slots_loses_nothing(
        self, page_size: int, num_slots: int, cache: bool, overlap: bool, fake_checkpoint: Path
    ) -> None:
        """Little to admit and much to come: whoever admits all of it must throw somebody out."""
        jobs = [
            Job(rid=f"r{i}", prompt=tuple(prompt), max_new_tokens=60, ignore_eos=False)
            for i, prompt in enumerate(talkative_prompts(6, 60))
        ]
        workload = Workload(
            jobs=tuple(jobs),
            num_slots=num_slots,
            page_size=page_size,
            cache=cache,
            overlap=overlap,
            schedule={"schedule_conservativeness": 0.01},
        )
        bench = self.bench(fake_checkpoint, workload)
        bench.run()
        bench.check_output()

    @both_loops
    @pytest.mark.parametrize("page_size", [1, 16])
    @pytest.mark.parametrize("chunk", [None, 16], ids=["whole", "chunks"])
    def test_requests_as_large_as_the_pool_run_one_after_the_other(
        self, chunk: int | None, page_size: int, overlap: bool, fake_checkpoint: Path
    ) -> None:
        prompts = [tuple(range(first, first + 60)) for first in (0, 20, 0)]
        # The last token is never fed, so it takes no slot.
        jobs = [Job(rid=f"r{i}", prompt=prompt, max_new_tokens=5) for i, prompt in enumerate(prompts)]
        workload = Workload(jobs=tuple(jobs), num_slots=64, page_size=page_size, chunk=chunk, overlap=overlap)
        bench = self.bench(fake_checkpoint, workload)
        bench.run()
        bench.check_output()

    def test_what_can_never_fit_is_rejected_and_the_next_one_runs(self) -> None:
        """Core refuses most of these before a scheduler sees them; not those that grew too large."""
        scheduler = self.scheduler(num_slots=100)
        waiting = [FakeReq("huge", 0, num_prompt_tokens=101), FakeReq("fits", 1, num_prompt_tokens=9)]
        rejected, started = [], []
        for _ in range(self.max_idle_passes):
            plan = scheduler.plan(FakeView(waiting=waiting, num_free_slots=100, num_total_slots=100))
            assert all(rejection.message for rejection in plan.reject), "the client is told why"
            rejected += [rejection.rid for rejection in plan.reject]
            started += [item.rid for item in plan.prefill]
            if started:
                break
            waiting = [req for req in waiting if req.rid not in rejected]
        assert (rejected, started) == (["huge"], ["fits"])

    @both_loops
    def test_requests_that_core_takes_back_run_again(self, overlap: bool, fake_checkpoint: Path) -> None:
        """New weights retract all that run, and their KV is gone: the scheduler was not asked."""
        prompts = {f"r{i}": list(range(i, i + 20)) for i in range(4)}
        bench = self.bench(fake_checkpoint, Workload(jobs=(), num_slots=128, chunk=16, overlap=overlap))
        for rid, prompt in prompts.items():
            bench.harness.add(rid, prompt, 20)
        for _ in range(6):
            bench.step()
        bench.harness.control("update_weights", path="new")
        outputs = bench.harness.run()
        bench.harness.assert_idle()
        for rid, prompt in prompts.items():
            found = outputs[rid].token_ids
            assert any(found == _over_two_weights(prompt, before, 20) for before in range(20)), f"request {rid}"

    # --- progress ---

    @both_loops
    @with_and_without_cache
    @pytest.mark.parametrize("chunk", [1, 7, 16])
    def test_a_prompt_in_chunks_ends_beside_others(
        self, chunk: int, cache: bool, overlap: bool, fake_checkpoint: Path
    ) -> None:
        short = [Job(rid=f"s{i}", prompt=(i, 5, 6), max_new_tokens=12, arrives=3 * i) for i in range(8)]
        long = Job(rid="long", prompt=tuple(range(80)), max_new_tokens=3, arrives=2)
        workload = Workload(jobs=(*short, long), num_slots=160, chunk=chunk, cache=cache, overlap=overlap)
        bench = self.bench(fake_checkpoint, workload)
        bench.run()
        bench.check_output()

    @pytest.mark.parametrize("num_rows", [1, 3])
    def test_many_more_requests_than_rows_all_end(self, num_rows: int, fake_checkpoint: Path) -> None:
        jobs = [Job(rid=f"r{i}", prompt=(i, i + 1), max_new_tokens=1 + i % 4) for i in range(20)]
        bench = self.bench(fake_checkpoint, Workload(jobs=tuple(jobs), num_rows=num_rows))
        bench.run()
        bench.check_output()

    @both_loops
    def test_an_old_request_runs_under_a_stream_of_new_ones(self, overlap: bool, fake_checkpoint: Path) -> None:
        """It needs most of the pool, which never is that empty unless the new ones are held back for it."""
        if not self.prevents_starvation:
            pytest.skip("the scheduler does not promise it")
        bench = self.bench(fake_checkpoint, Workload(jobs=(), num_slots=64, num_rows=8, cache=False, overlap=overlap))
        outputs = bench.harness.outputs
        num_sent = 0
        for step in range(400):
            while num_sent - len(bench.harness.finished) < 6:
                bench.send(Job(rid=f"new{num_sent}", prompt=(num_sent % 90, 3, 4, 5), max_new_tokens=8))
                num_sent += 1
            if step == 5:
                bench.send(Job(rid="old", prompt=tuple(range(50)), max_new_tokens=4))
            bench.step()
            if "old" in outputs:
                return
        raise AssertionError(f"the old request waits, while {len(bench.harness.finished)} new ones came and went")

    @examples(20)
    @given(step=st.integers(0, 30), chunk=st.sampled_from([None, 7]), overlap=st.booleans())
    def test_requests_that_are_all_cancelled_leave_nothing(
        self, step: int, chunk: int | None, overlap: bool, fake_checkpoint: Path
    ) -> None:
        jobs = [
            Job(rid=f"r{i}", prompt=tuple(range(20 + i)), max_new_tokens=20, arrives=i, cancelled=step)
            for i in range(6)
        ]
        # One of the same id comes later: nothing may be remembered of the first.
        again = Job(rid="r0", prompt=tuple(range(40)), max_new_tokens=9)
        bench = self.bench(
            fake_checkpoint, Workload(jobs=tuple(jobs), num_slots=64, num_rows=4, chunk=chunk, overlap=overlap)
        )
        bench.run()
        bench.harness.outputs.clear()
        bench.harness.finished.clear()
        bench.send(again)
        assert bench.harness.run()["r0"].token_ids == again.output
        bench.harness.assert_idle()


def _over_two_weights(prompt: list[int], num_before: int, num_tokens: int) -> list[int]:
    """What the fake device generates when the weights change after so many tokens."""
    before = expected_output(prompt, num_before, VOCAB_SIZE)
    return [*before, *expected_output([*prompt, *before], num_tokens - num_before, VOCAB_SIZE, weights=1)]
