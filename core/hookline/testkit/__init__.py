"""For plugin authors: a suite of tests for each kind of offer, and what stands in for a GPU and a model.

A test file of a plugin subclasses the suite of its kind and names the offer::

    from hookline.testkit.policies import SchedulePolicySuite


    class TestShortest(SchedulePolicySuite):
        name = "shortest"

Needs ``pip install hookline-core[testkit]``. The first-party plugins pass the same suites.
"""
