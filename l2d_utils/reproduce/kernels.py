"""How kernels are started: encrypted where possible, and with a log of their own."""

from __future__ import annotations

from pathlib import Path

import zmq
from jupyter_client.manager import AsyncKernelManager
from traitlets.config import Config

NAME = "python3"


def settings(log: Path) -> dict:
    """Keyword arguments for nbclient and papermill. What the kernel process itself writes to standard error
    (its death throes, not the notebook's output) goes to `log`."""

    class Manager(AsyncKernelManager):
        async def start_kernel(self, **options):
            with log.open("ab") as file:
                return await super().start_kernel(stderr=file, **options)

    # Without it other users of the machine can listen in on the loopback interface; each kernel warns of it.
    config = Config()
    if zmq.has("curve") and hasattr(AsyncKernelManager, "transport_encryption"):
        config.KernelManager.transport_encryption = "auto"
    return {"kernel_name": NAME, "kernel_manager_class": Manager, "config": config}
