"""Coordinators: replicated state machines over internal topics, and the runtime that feeds them."""
