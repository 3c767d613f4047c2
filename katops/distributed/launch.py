"""Joining the processes that torchrun or SLURM has started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous

from katops.distributed.heartbeat import Heartbeat
from katops.distributed.launchers import is_one_of_several
from katops.distributed.processes import Processes, current
from katops.errors import ToldElsewhere, UserError

# Processes wait for each other for as long as the first one evaluates or generates. Whether the others are alive is
# found out by the heartbeat, not by the end of somebody's patience.
PATIENCE = timedelta(days=7)
ARRIVAL = timedelta(minutes=3)
"""How much later than the first process the last one may start."""
FIRST_PORT = 15000
"""Of the ports by which the processes of a SLURM job meet; the last digits of its number tell jobs apart."""


@contextmanager
def joined() -> Iterator[Processes]:
    """The processes of this job, which talk to each other until the block ends.

    They are those of ``torchrun`` or ``srun``, found in the environment; outside of both this process is alone. Where
    they are joined already, by a caller, they stay joined.

    Raises:
        UserError: a process of the job is gone; the environment of SLURM does not say what is needed.
    """
    if not dist.is_available() or dist.is_initialized() or not _started_by_launcher():
        yield current()
        return
    if os.environ["WORLD_SIZE"] == "1":
        yield Processes()
        return
    store, rank, size = next(rendezvous("env://"))
    local_rank = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available() and local_rank < torch.cuda.device_count():
        torch.cuda.set_device(local_rank)
    _wait_for_all(store, rank, size)
    processes = Processes(rank, size, local_rank, int(os.environ["LOCAL_WORLD_SIZE"]))
    heartbeat = Heartbeat(store, processes)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        with heartbeat.beating(), _losses_as_errors(heartbeat):
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
            yield processes
    finally:
        # What is not in order any more cannot be put away in order.
        with suppress(RuntimeError, ValueError):
            dist.destroy_process_group()


def _wait_for_all(store: dist.Store, rank: int, size: int) -> None:
    """Have every process here before any waits for another without end.

    Raises:
        UserError: some have not come.
    """
    here = dist.PrefixStore("katops-here", store)
    here.set(str(rank), "1")
    try:
        here.wait([str(other) for other in range(size)], ARRIVAL)
    except RuntimeError as error:
        missing = [other for other in range(size) if not here.check([str(other)])]
        sentence = (
            f"of the {size} processes of this job, {missing} have not come within {ARRIVAL.seconds // 60} minutes"
        )
        first = min(set(range(size)) - set(missing))
        raise (UserError if rank == first else ToldElsewhere)(f"{sentence}; their own messages say why") from error


@contextmanager
def _losses_as_errors(heartbeat: Heartbeat) -> Iterator[None]:
    """The words of gloo, NCCL and TCP for a process that is gone, as one sentence."""
    try:
        yield
    except UserError:
        raise
    except RuntimeError as error:
        if not is_loss(error) and not (isinstance(error, dist.DistError) and heartbeat.knows()):
            raise
        sentence = heartbeat.sentence()
        raise (UserError if heartbeat.tells() else ToldElsewhere)(sentence) from error


def is_loss(error: BaseException) -> bool:
    """Whether an exception says that another process does not answer any more."""
    text = str(error)
    words = (
        "Connection closed by peer",
        "Connection reset by peer",
        "gloo/transport",
        "Broken pipe",
        "remote process exited",
    )
    return isinstance(error, dist.DistNetworkError) or any(word in text for word in words)


def _started_by_launcher() -> bool:
    """Whether the environment is that of torchrun, or of srun, whose variables are then given torchrun's names."""
    if dist.is_torchelastic_launched() or not is_one_of_several():
        return dist.is_torchelastic_launched()
    # Lightning's own reading of these variables refuses whoever has written --ntasks in place of --ntasks-per-node.
    from lightning.fabric.plugins.environments import SLURMEnvironment

    size, nodes = int(os.environ["SLURM_STEP_NUM_TASKS"]), int(os.environ.get("SLURM_STEP_NUM_NODES", "1"))
    each = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")  # such as "4(x2)", or "3,1"
    if size % nodes or "," in each:
        shares = f" ({each})" if each else ""
        raise UserError(
            f"srun has started {size} processes on {nodes} nodes{shares}; start as many on each (--ntasks-per-node)"
        )
    names = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST", "127.0.0.1")
    first = SLURMEnvironment.resolve_root_node_address(names)
    port = FIRST_PORT + (int(os.environ.get("SLURM_JOB_ID", "0")) + int(os.environ["SLURM_STEP_ID"])) % 10000
    os.environ.update(
        RANK=os.environ["SLURM_PROCID"],
        WORLD_SIZE=str(size),
        LOCAL_RANK=os.environ["SLURM_LOCALID"],
        LOCAL_WORLD_SIZE=str(size // nodes),
        MASTER_ADDR=os.environ.get("MASTER_ADDR", first),
        MASTER_PORT=os.environ.get("MASTER_PORT", str(port)),
    )
    return True
