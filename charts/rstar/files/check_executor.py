"""``helm test``: executors answer, run a program and keep it off the network; and whether the cluster keeps pods off it.

``python check_executor.py TARGET [--isolated]``. Exit code 0 when all holds, and a sentence with exit code 1 when not.
The network is tried at the API server, which every pod could reach without a policy: by a program, which the executor
must stop, and by this pod itself, which has the labels of a coordinator and so no business there. ``--isolated``: that
the pod can is a failure.
"""

import asyncio
import os
import socket
import sys

from rstar.interfaces import Execution, ExecutionLimits, State
from rstar.rpc.clients import ExecutorClient
from rstar.rpc.errors import CallFailed

STEP = "<code>\n# Step 1\n{}\n<end_of_step>"
CONNECT = "import socket\nsocket.create_connection(({!r}, {}), timeout=3).close()\nprint('connected')"


async def run(executor: ExecutorClient, program: str) -> Execution:
    """Run one program."""
    return (await executor.execute(State("check", "", ()), [STEP.format(program)], ExecutionLimits(seconds=10)))[0]


async def check(target: str, isolated: bool) -> None:
    """Check it. Raises ``SystemExit`` with what does not hold."""
    async with ExecutorClient([target]) as executor:
        sums = await run(executor, "print(20 + 4)")
        if sums.stdout.strip() != "24":
            sys.exit(f"the executor at {target} cannot run a program: {sums.status} {sums.reason}")
        print(f"the executor at {target} runs programs")
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        if "connected" in (await run(executor, CONNECT.format(host, port))).stdout:
            sys.exit(f"a program reached {host}:{port} from the executor: do not let it run what a model wrote")
        print("its programs cannot reach the network")
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
    except OSError:
        print("neither can coordinators, whose labels this pod has")
        return
    told = f"this pod reached {host}:{port} with the labels of a coordinator: does the cluster enforce NetworkPolicies?"
    if isolated:
        sys.exit(told)
    print(told)


try:
    asyncio.run(check(sys.argv[1], "--isolated" in sys.argv[2:]))
except CallFailed as error:
    sys.exit(f"the executor at {sys.argv[1]} does not answer: {error}")
