"""Kernels for nbval, forked from one process that has imported the libraries: a start takes a tenth of three seconds.

Everything else about them is as usual: each is a process of its own, in the notebook's folder and environment.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

NAME = "forked"
IMPORTED = ["ipykernel.kernelapp", "matplotlib.pyplot", "torch", "torch.func", "torch._dynamo", "scipy.optimize",
            "gfm.book", "gfm.figures", "gfm.experiments"]


class Forked(LocalProvisioner):
    """Starts kernels in processes of the fork server."""

    async def launch_kernel(self, cmd: Sequence[str], **options: Any) -> KernelConnectionInfo:
        """Start the kernel of a command line ``python -m ipykernel_launcher -f FILE``."""
        self.process = _Process(cmd[cmd.index("ipykernel_launcher") + 1 :], options["env"],
                                options.get("cwd") or os.getcwd())
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class _Process:
    """What a provisioner asks of :class:`subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], cwd: str) -> None:
        self._own = multiprocessing.get_context("forkserver").Process(
            target=_serve, args=(list(arguments), dict(env), cwd), daemon=True)
        self._own.start()
        self.pid = self._own.pid

    def poll(self) -> int | None:
        return self._own.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self._own.join(timeout)
        if self._own.exitcode is None:
            raise subprocess.TimeoutExpired("kernel", timeout or 0.0)
        return self._own.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _serve(arguments: list[str], env: dict[str, str], cwd: str) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path.insert(0, "")  # as python -m does
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(arguments)


def use() -> None:
    """Let every kernel that this process starts be forked."""
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # as kernels set it
    multiprocessing.get_context("forkserver").set_forkserver_preload(IMPORTED)
    factory = KernelProvisionerFactory.instance()
    factory.default_provisioner_name = NAME
    factory.provisioners[NAME] = _Entry()


class _Entry:
    """Stands for an entry point of a package."""

    name = NAME

    def load(self) -> type[Forked]:
        return Forked
