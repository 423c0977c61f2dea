"""Random order."""

from __future__ import annotations

from hookline.interfaces.scheduling import SchedulePolicy, SchedulerView, WaitingReq

_MASK = (1 << 64) - 1


class RandomPolicy(SchedulePolicy):
    """A shuffle that depends on the seed and on arrivals only: every rank, and every later step, has the same."""

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        return sorted(view.waiting, key=lambda req: (_mixed(self.seed, req.arrival), req.arrival))


def _mixed(seed: int, arrival: int) -> int:
    """Well-spread bits of both (the finalizer of splitmix64)."""
    bits = (seed * 0x9E3779B97F4A7C15 + arrival * 0xD1B54A32D192ED03 + 0x9E3779B97F4A7C15) & _MASK
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
    return bits ^ (bits >> 31)
