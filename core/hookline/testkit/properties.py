"""How suites use hypothesis."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def examples(number: int) -> settings:
    """Decorator of a property that a suite holds for several subclasses.

    hypothesis takes the subclasses for one test that runs with different executors, which is what is meant.
    """
    return settings(max_examples=number, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
