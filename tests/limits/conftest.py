"""Fixtures of several tests of limits."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture
def impatient():
    """Have threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)
