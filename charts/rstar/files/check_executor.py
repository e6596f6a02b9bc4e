"""``helm test``: checks that executors answer, run a program and keep it off the network, and that policies are enforced.

``python check_executor.py TARGET [--isolated]``. Exit code 0, or 1 with a sentence when a check fails. The checks
connect to the API server, which every pod can reach without a policy: from a program, which the executor must stop, and
from this pod, which has the labels of a coordinator and must not reach it either. Only with ``--isolated`` is the
latter a failure.
"""

import asyncio
import os
import socket
import sys

from rstar.interfaces import Execution, ExecutionLimits, State
from rstar.rpc.clients import ExecutorClient
from rstar.rpc.errors import CallFailed
from rstar.rpc.tls import CertificateError, TlsSettingsError

STEP = "<code>\n# Step 1\n{}\n<end_of_step>"
CONNECT = "import socket\nsocket.create_connection(({!r}, {}), timeout=3).close()\nprint('connected')"


async def run(executor: ExecutorClient, program: str) -> Execution:
    """Run one program."""
    return (await executor.execute(State("check", "", ()), [STEP.format(program)], ExecutionLimits(seconds=10)))[0]


async def check(target: str, isolated: bool) -> None:
    """Make the checks. Raises ``SystemExit`` with a sentence when one fails."""
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
    warning = (
        f"this pod reached {host}:{port} with the labels of a coordinator: does the cluster enforce NetworkPolicies?"
    )
    if isolated:
        sys.exit(warning)
    print(warning)


try:
    asyncio.run(check(sys.argv[1], "--isolated" in sys.argv[2:]))
except CallFailed as error:
    sys.exit(f"the executor at {sys.argv[1]} does not answer: {error}")
except (TlsSettingsError, CertificateError) as error:
    sys.exit(str(error))
