"""A controller with its store on disk, as a single node has them."""

import asyncio

from barnabas.clock import SystemClock
from barnabas.config.broker import BrokerConfig
from barnabas.controller.brokers import BrokerRegistration
from barnabas.controller.controller import Controller
from barnabas.controller.liveness import Heartbeat
from barnabas.controller.store.embedded import EmbeddedStore
from barnabas.controller.store.metadata_log import METADATA_DIRECTORY
from barnabas.log.files import Files
from barnabas.wire.primitives import random_uuid

DIRECTORY_ID = b"d" * 16


def embedded_store(directory, *, files=None, **options):
    """The store of node 1 in a metadata directory."""
    return EmbeddedStore(
        files or Files(),
        directory / METADATA_DIRECTORY,
        node_id=1,
        clock=SystemClock(),
        loop=asyncio.get_running_loop(),
        **options,
    )


async def serve(controller, registration):
    """Registers a broker, and lets it serve."""
    epoch = await controller.register(registration)
    await controller.heartbeat(Heartbeat(registration.broker_id, epoch, controller.image.offset))


async def open_controller(directory, *, settings=None, clean=True, files=None, register=True, **options):
    """A controller that serves, its broker registered unless `register` says otherwise."""
    controller = Controller(
        embedded_store(directory, files=files, **options),
        node_id=1,
        cluster_id="GkqhtaJqRZaHC44OXN4CyQ",
        config=BrokerConfig(settings or {}),
        loop=asyncio.get_running_loop(),
    )
    await controller.open()
    if register:
        registration = BrokerRegistration(
            1, random_uuid(), {"PLAINTEXT": ("localhost", 9092)}, log_dirs=(DIRECTORY_ID,), clean=clean
        )
        await serve(controller, registration)
    return controller
