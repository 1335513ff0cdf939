"""Loops for the tests of durability."""

from tests.event_loops import loop, pytest_pyfunc_call

__all__ = ["loop", "pytest_pyfunc_call"]
