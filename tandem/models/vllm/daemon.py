"""The process behind `tandem pool up`: runs a standing pool until it is stopped. The job comes on standard input."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tandem.errors import TandemError, UsageError
from tandem.models.vllm.command import Serve
from tandem.models.vllm.placement import Place
from tandem.models.vllm.pool import Pool
from tandem.models.vllm.supervisor import RestartPolicy
from tandem.storage.lock import FileLock


class StandingPool(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    serve: Serve
    places: list[Place]
    folder: Path
    ports: list[int] = []
    policy: RestartPolicy = RestartPolicy()


async def run(job: StandingPool) -> None:
    """Run the pool until SIGTERM or SIGINT. Raises UsageError if another daemon has one of that name."""
    lock = FileLock(job.folder / "lock")  # until the process ends
    if not lock.take():
        raise UsageError(f"the pool '{job.name}' is up already")
    pool = Pool(job.serve, job.places, job.folder, name=job.name, ports=job.ports, standing=True, policy=job.policy)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    starting, ending = asyncio.ensure_future(pool.start()), asyncio.ensure_future(stopped.wait())
    await asyncio.wait([starting, ending], return_when=asyncio.FIRST_COMPLETED)
    try:
        if starting.done():
            await starting
            await ending
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await pool.aclose()


def main() -> int:
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    try:
        asyncio.run(run(StandingPool.model_validate_json(sys.stdin.read())))
    except TandemError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
