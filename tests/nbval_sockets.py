"""pytest plugin (-p tests.nbval_sockets): nbval's kernels get private sockets and this folder's package."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nbval.kernel
from jupyter_client.manager import KernelManager

from reproduce.kernels import environment, private_sockets


class PrivateKernelManager(KernelManager):
    """A kernel manager whose sockets lie in a folder that goes when the manager goes."""

    def __init__(self, **options):
        self._sockets = tempfile.TemporaryDirectory(prefix="l2d-nbval-")
        super().__init__(config=private_sockets(Path(self._sockets.name)), **options)

    def start_kernel(self, **options):
        return super().start_kernel(**{"env": environment(), **options})


nbval.kernel.KernelManager = PrivateKernelManager  # nbval offers no option for it
