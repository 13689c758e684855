"""Kernels talk over sockets of their own."""

import os
from pathlib import Path

import nbclient
import nbformat
import nbval.kernel
import zmq

import nbval_sockets
from reproduce import kernels


def test_two_kernels_of_nbval_never_share_a_socket():
    assert nbval.kernel.KernelManager is nbval_sockets.PrivateKernelManager
    first, second = (nbval.kernel.KernelManager(kernel_name=kernels.NAME) for _ in range(2))
    assert first.transport == second.transport == "ipc"
    assert Path(first.connection_file).parent != Path(second.connection_file).parent
    folder = Path(first.connection_file).parent
    assert folder.is_dir()
    del first
    assert not folder.exists()


def test_nbval_runs_a_cell_over_private_sockets():
    kernel = nbval.kernel.RunningKernel(kernels.NAME)
    try:
        kernel.await_reply(kernel.execute_cell_input("1 + 1"), timeout=60)
        assert kernel.km.transport == "ipc" and kernel.is_alive()
    finally:
        kernel.stop()


def test_output_may_come_late(tmp_path):
    """A machine that stalls for some seconds between a cell's reply and its last output fails no run."""
    with kernels.settings(tmp_path / "log", kernels.Kill()) as options:
        client = nbclient.NotebookClient(nbformat.v4.new_notebook(), **options)
    assert client.iopub_timeout == kernels.LATE >= 60


def test_a_folder_too_deep_for_a_socket_leaves_the_default():
    deep = Path("/", "d" * zmq.IPC_PATH_MAX_LEN)
    assert "transport" not in kernels.private_sockets(deep).KernelManager


def test_make_test_asks_for_them():
    makefile = Path(__file__).resolve().parents[1] / "Makefile"
    assert "-p tests.nbval_sockets" in makefile.read_text("utf-8")


def test_nbval_and_runner_import_the_package_of_this_folder(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    first, second = kernels.environment()["PYTHONPATH"].split(os.pathsep)
    assert (Path(first) / "l2d_utils").is_dir() and Path(first) == kernels.ROOT and second == "elsewhere"
    kernel = nbval.kernel.RunningKernel(kernels.NAME)
    try:
        where = kernel.execute_cell_input("import l2d_utils; print(l2d_utils.__file__)", allow_stdin=False)
        kernel.await_reply(where, timeout=60)
        while (message := kernel.get_message("iopub", timeout=60))["msg_type"] != "stream":
            pass
        text = message["content"]["text"]
        assert text.strip() == str(kernels.ROOT / "l2d_utils" / "__init__.py")
    finally:
        kernel.stop()
