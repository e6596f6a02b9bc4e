"""``helm test``: executors answer and run a program; it says whether one can reach the network, which fails ``--isolated``.

``python check_executor.py TARGET [--isolated]``. Exit code 0 when all holds, and a sentence with exit code 1 when not.
The network is tried at the API server, which every pod could reach without a policy.
"""

import asyncio
import os
import sys

from rstar.interfaces import Execution, ExecutionLimits
from rstar.rpc.clients import ExecutorClient
from rstar.rpc.errors import CallFailed

STEP = "<code>\n# Step 1\n{}\n<end_of_step>"
CONNECT = "import socket\nsocket.create_connection(({!r}, {}), timeout=3).close()\nprint('connected')"


async def run(executor: ExecutorClient, program: str) -> Execution:
    """Run one program."""
    return (await executor.execute([], [STEP.format(program)], ExecutionLimits(seconds=10)))[0]


async def check(target: str, isolated: bool) -> None:
    """Check it. Raises ``SystemExit`` with what does not hold."""
    async with ExecutorClient([target]) as executor:
        sums = await run(executor, "print(20 + 4)")
        if sums.stdout.strip() != "24":
            sys.exit(f"the executor at {target} cannot run a program: {sums.status} {sums.reason}")
        print(f"the executor at {target} runs programs")
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        if "connected" not in (await run(executor, CONNECT.format(host, port))).stdout:
            print("its programs cannot reach the network")
            return
        told = f"a program reached {host}:{port} from the executor: does the cluster enforce NetworkPolicies?"
        if isolated:
            sys.exit(told)
        print(told)


try:
    asyncio.run(check(sys.argv[1], "--isolated" in sys.argv[2:]))
except CallFailed as error:
    sys.exit(f"the executor at {sys.argv[1]} does not answer: {error}")
