"""Compacting a log in one go, without the event loop."""

from __future__ import annotations

from barnabas.log.cleaning.log_pass import LogPass, PassSettings
from barnabas.log.cleaning.worker import InlineWorker
from tests.log.harness import START_MS, LogHarness

SETTINGS = PassSettings(memory_bytes=1 << 20, buffer_bytes=300)


def compact(log, files, *, now_ms=START_MS, settings=SETTINGS, worker=None, only_if_due=False):
    """Everything that may be cleaned now; False if there is nothing."""
    log.flush()
    dirtiness = log.assess_dirtiness(now_ms)
    if not dirtiness.cleanable_bytes or (only_if_due and not dirtiness.is_due(log.config)):
        return False
    worker = worker or InlineWorker(files.private())
    log_pass = LogPass(log, dirtiness, settings, now_ms=now_ms)
    log_pass.indexed(worker.index(log_pass.begin()))
    while (task := log_pass.next()) is not None:
        log_pass.replace(worker.clean(task))
    files.sync_directory(log.directory)
    log_pass.finish()
    return True


class CompactedLog(LogHarness):
    """A log with small segments, and the records that it was given."""

    def __init__(self, directory, *, files=None, **settings):
        settings = {
            "cleanup_policy": frozenset({"compact"}),
            "segment_bytes": 400,
            "index_interval_bytes": 100,
            "min_cleanable_dirty_ratio": 0.0,
            **settings,
        }
        super().__init__(directory, files=files, **settings)

    def compact(self, **options):
        options.setdefault("now_ms", self.clock.now)
        return compact(self.log, self.files, **options)
