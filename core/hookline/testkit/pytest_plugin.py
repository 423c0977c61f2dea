"""Loaded by pytest in every environment where hookline-core[testkit] is: must import nothing of weight."""

from __future__ import annotations

import pytest

# Failed assertions of suites show their values, like those of a test file.
pytest.register_assert_rewrite("hookline.testkit")
