"""Creates a tenant in MinIO: the bucket unless it exists, the user, and the policy that limits it to its folder.

``python make_tenant.py BUCKET NAME POLICY_FILE``, with RSTAR_S3_ENDPOINT, the admin's MINIO_ADMIN_USER and
MINIO_ADMIN_PASSWORD, and the tenant's AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment. A second run changes
nothing, except that a new policy or secret key replaces the old one.
"""

import os
import sys
from urllib.parse import urlsplit

from minio import Minio, MinioAdmin
from minio.credentials.providers import StaticProvider
from minio.error import MinioException
from urllib3.exceptions import HTTPError


def make(bucket: str, name: str, policy_file: str) -> None:
    """Create all of it. Raises the errors of the MinIO client."""
    server = urlsplit(os.environ["RSTAR_S3_ENDPOINT"])
    secure = server.scheme == "https"
    user, password = os.environ["MINIO_ADMIN_USER"], os.environ["MINIO_ADMIN_PASSWORD"]
    client = Minio(server.netloc, access_key=user, secret_key=password, secure=secure)
    if not client.bucket_exists(bucket):
        client.make_bucket(bucket)
    admin = MinioAdmin(endpoint=server.netloc, credentials=StaticProvider(user, password), secure=secure)
    admin.policy_add(name, policy_file)
    access_key = os.environ["AWS_ACCESS_KEY_ID"]
    admin.user_add(access_key, os.environ["AWS_SECRET_ACCESS_KEY"])
    admin.policy_set(name, user=access_key)
    print(f"user {access_key} has policy {name} for bucket {bucket}")


try:
    make(*sys.argv[1:4])
except (MinioException, HTTPError) as error:
    sys.exit(f"cannot make the tenant at {os.environ['RSTAR_S3_ENDPOINT']}: {error}")
