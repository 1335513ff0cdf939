"""What the programs of the Python clients share: jobs come in by stdin, events go out by stdout (tests/clients/peer.py)."""

from __future__ import annotations

import base64
import json
import sys
import threading
import traceback


class Job:
    """One job; `stopping` is set once it is told to stop."""

    def __init__(self, fields):
        self.fields = fields
        self.number = fields["job"]
        self.stopping = threading.Event()

    def __getitem__(self, name):
        return self.fields[name]

    def get(self, name, default=None):
        value = self.fields.get(name)
        return default if value is None else value

    def emit(self, **event):
        write({"job": self.number, **event})


_write_lock = threading.Lock()


def write(message):
    line = json.dumps(message) + "\n"
    with _write_lock:
        sys.stdout.write(line)
        sys.stdout.flush()


def encoded(data):
    return None if data is None else base64.b64encode(data).decode()


def decoded(text):
    return None if text is None else base64.b64decode(text)


def record(topic, partition, offset, timestamp, key, value, headers):
    return {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "timestamp": timestamp,
        "key": encoded(key),
        "value": encoded(value),
        "headers": [[name, encoded(data)] for name, data in headers or ()],
    }


def failure(error, code):
    traceback.print_exception(error, file=sys.stderr)
    return {"failed": f"{type(error).__name__}: {error}", "code": code(error)}


def serve(client, jobs, code):
    """Runs each job in a thread of its own until stdin ends.

    `jobs` are functions by name; `code(error)` gives Kafka's error code of a client's exception or None.
    """
    running = {}

    def run(job):
        try:
            job.emit(done=jobs[job["do"]](job))
        except BaseException as error:  # noqa: BLE001 - every failure is the job's answer
            job.emit(**failure(error, code))

    write({"ready": client})
    for line in sys.stdin:
        fields = json.loads(line)
        if "stop" in fields:
            running[fields["job"]].stopping.set()
            continue
        job = running[fields["job"]] = Job(fields)
        threading.Thread(target=run, args=(job,), name=f"job-{job.number}", daemon=True).start()
