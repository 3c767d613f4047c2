"""Several processes of this machine work on one sweep."""

import multiprocessing
import os
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch
from rich.console import Console

from katops.distributed.launchers import stand_alone
from katops.errors import Preempted, UserError
from katops.plugins import load_plugins
from katops.sweeps.plan import Plan
from katops.sweeps.worker import work
from katops.training.signals import Signals, ending_at_once

LOOK = 1.0
"""Seconds between two looks whether a signal came."""
GRACE = 30.0
"""Seconds in which a process that is told to end may save what it has."""


def work_in_processes(plan: Plan, count: int, console: Console) -> None:
    """Start processes and wait for them; where one ends badly, the others are ended too.

    Args:
        plan: the sweep, whose trials have been put down.
        count: of processes; GPUs are dealt out to them in turn.
        console: where lines about the trials are printed.

    Raises:
        UserError: a process met what it cannot go on from, or was ended from outside.
        Preempted: SIGTERM or SIGUSR1 asked for an end; the trials are saved.
    """
    context = multiprocessing.get_context("spawn")  # CUDA and threads do not survive a fork
    gpus = devices()
    threads = None if "OMP_NUM_THREADS" in os.environ else max(1, (os.cpu_count() or 1) // count)
    receivers, processes = [], []
    try:
        for number in range(count):
            receiver, sender = context.Pipe(duplex=False)
            device = gpus[number % len(gpus)] if gpus else None
            arguments = (plan, sender, device, threads)
            process = context.Process(target=_worker, args=arguments, name=f"worker {number}")
            process.start()
            sender.close()
            receivers.append(receiver)
            processes.append(process)
        signals = Signals()
        with signals.listening():
            _follow(processes, receivers, console, signals)
    finally:
        _end(processes)


def _follow(processes: list[BaseProcess], receivers: list[Connection], console: Console, signals: Signals) -> None:
    """Print what the processes say until all have closed their pipe; pass on that a scheduler wants the machine."""
    open_pipes = dict(zip(receivers, processes, strict=True))
    stopped = False
    while open_pipes:
        if signals.ending is not None and not stopped:
            stopped = True
            for process in processes:
                process.terminate()
        for receiver in wait(list(open_pipes), LOOK):
            try:
                kind, text = receiver.recv()
            except EOFError:
                process = open_pipes.pop(receiver)
                if not stopped:
                    _check_ended(process)
                continue
            if kind == "error":
                raise UserError(text)
            stopped = stopped or kind == "preempted"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
    if stopped:
        raise Preempted("stopped by a signal; the trials are saved, and the same command continues the sweep")


def _check_ended(process: BaseProcess) -> None:
    process.join()
    if process.exitcode:
        how = f"signal {-process.exitcode}" if process.exitcode < 0 else f"exit code {process.exitcode}"
        raise UserError(
            f"{process.name} of the sweep ended with {how}; its trial is not lost, the same command continues the sweep"
        )


def _end(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(GRACE)
        if process.is_alive():
            process.kill()
            process.join()


def _worker(plan: Plan, sender: Connection, device: str | None, threads: int | None) -> None:
    """The life of one process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    stand_alone()
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        with ending_at_once():  # between trainings, which notice signals by themselves
            load_plugins(plan.config.plugins, allowed=plan.allow_plugins)
            work(plan, lambda line: sender.send(("line", line)))
    except UserError as error:
        sender.send(("error", str(error)))
    except Preempted as stop:
        sender.send(("preempted", str(stop)))
    except KeyboardInterrupt:
        pass  # the parent tells it
    finally:
        sender.close()


def _end_with_parent() -> None:
    """A sweep that was killed leaves no process behind; checkpoints are whole at any moment."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def devices() -> list[str]:
    """Names of the GPUs of this process, as CUDA_VISIBLE_DEVICES takes them."""
    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] or [str(number) for number in range(count)]
