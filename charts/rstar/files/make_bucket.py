"""Creates a bucket unless it exists: ``python make_bucket.py BUCKET``.

The object store's address and keys are in the same environment variables as for rounds. The server may still be
starting, so a failed try is repeated for two minutes.
"""

import os
import sys
import time
from urllib.parse import urlsplit

from minio import Minio
from minio.error import MinioException
from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError

TRIES, PAUSE_SECONDS = 40, 3


def make(bucket: str) -> None:
    """Create it. Raises ``SystemExit`` with one sentence when the server does not answer or refuses."""
    endpoint = os.environ["RSTAR_S3_ENDPOINT"]
    server = urlsplit(endpoint)
    client = Minio(
        server.netloc,
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        secure=server.scheme == "https",
        http_client=PoolManager(timeout=Timeout(5), retries=False),
    )
    for attempt in range(TRIES):
        try:
            if not client.bucket_exists(bucket):
                client.make_bucket(bucket)
        except (MinioException, HTTPError) as error:
            if attempt == TRIES - 1:
                sys.exit(f"cannot make bucket {bucket} at {endpoint}: {error}")
            time.sleep(PAUSE_SECONDS)
        else:
            print(f"bucket {bucket} is there")
            return


make(sys.argv[1])
