"""Buckets of test servers, created with the client that the servers' users have."""

from __future__ import annotations

from tests.support.seaweed import KEY, SECRET


def create_bucket(endpoint: str, name: str) -> None:
    """Create a bucket, if it is not there."""
    import boto3  # moto brings it

    client = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1"
    )
    try:
        client.create_bucket(Bucket=name)
    except client.exceptions.BucketAlreadyExists:
        pass
    finally:
        client.close()
