"""Where the processes of a job meet, as the command line says it. Imports no JAX."""

import dataclasses
import socket

from madbench.errors import UserError

CONNECTED = "madbench: the processes have met"  # what one prints for its `supervisor`


@dataclasses.dataclass(frozen=True)
class Meeting:
    """Where the processes of a job meet; named as in `jax.distributed.initialize`.

    Attributes:
      coordinator_address: "HOST:PORT" of process 0; None where JAX finds it out (TPU, SLURM, Open MPI, Kubernetes).
      num_processes, process_id: None likewise.
      initialization_timeout: seconds until all must have come.
      heartbeat_timeout: seconds without a sign of life after which a process is lost.
    """

    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    initialization_timeout: int = 300
    heartbeat_timeout: int = 30

    def __str__(self) -> str:
        """As a message has it: "within 300 s at HOST:PORT"."""
        at = f" at {self.coordinator_address}" if self.coordinator_address else ""
        return f"within {self.initialization_timeout} s{at}"

    @property
    def waiting(self) -> str:
        """What a process says while the others have not come."""
        others = "the other processes"
        if self.num_processes:
            n = self.num_processes - 1
            others = f"the other {n} processes" if n != 1 else "the other process"
        at = f" at {self.coordinator_address}" if self.coordinator_address else ""
        return f"waiting for {others}{at}, at most {self.initialization_timeout} s (--initialization_timeout)"

    def check(self) -> None:
        """Raises UserError, one line, where the three do not make an address for this process."""
        given = {name: getattr(self, name) for name in ("coordinator_address", "num_processes", "process_id")}
        missing = [f"--{name}" for name, value in given.items() if value is None]
        if missing and len(missing) < len(given):
            raise UserError(f"{' and '.join(missing)} must be given too: all three, or --distributed alone")
        for name in ("initialization_timeout", "heartbeat_timeout"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} must be at least 1 second, not {getattr(self, name)}")
        if missing:
            return
        host, colon, port = self.coordinator_address.rpartition(":")
        if not (host and colon and port.isdigit() and 0 < int(port) < 2**16):
            raise UserError(f"--coordinator_address={self.coordinator_address} is not HOST:PORT")
        if self.num_processes < 1:
            raise UserError(f"--num_processes must be at least 1, not {self.num_processes}")
        if not 0 <= self.process_id < self.num_processes:
            raise UserError(
                f"--process_id={self.process_id} is not among the {self.num_processes} processes, which are numbered "
                f"from 0 to {self.num_processes - 1}"
            )
        if self.process_id == 0:
            _check_port(int(port))


def _check_port(port: int) -> None:
    """The coordinator itself would crash where the port is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port of which only memories are left is free
        try:
            probe.bind(("", port))
        except OSError as error:
            raise UserError(f"port {port} of --coordinator_address cannot be used: {error.strerror}") from None
