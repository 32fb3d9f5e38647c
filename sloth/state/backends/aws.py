"""What the environment and the files of Amazon's own tools say: credentials, region and endpoint for S3."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import UsageError
from sloth.frozen import frozen
from sloth.state.backends.address import WrongAddress, parse_endpoint

if TYPE_CHECKING:
    from sloth.state.backends.location import BucketLocation

REGION = "us-east-1"  # what servers that are not Amazon's take, too
HOW_TO_LOG_IN = "set $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY, or use ~/.aws/credentials"
# With one of them the client gets credentials by itself: a role of a container, or of a CI job.
ROLES = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_WEB_IDENTITY_TOKEN_FILE")
# What a profile may have that only Amazon's tools can use.
TOOLS = ("sso_session", "sso_start_url", "role_arn", "credential_process", "web_identity_token_file")


@frozen
class Credentials:
    """What is needed to reach a bucket. Without a key the client asks the machine that it runs on for its role."""

    endpoint: str
    region: str
    key: str = ""
    secret: str = ""
    token: str = ""
    ca: Path | None = None

    def __repr__(self) -> str:
        """Return it without the secret, which must not get into a traceback."""
        return f"Credentials({self.endpoint!r}, {self.region!r})"

    def settings(self) -> dict[str, str]:
        """Return the settings of the client, without those that are empty."""
        settings = {
            "endpoint": self.endpoint, "region": self.region, "access_key_id": self.key,
            "secret_access_key": self.secret, "session_token": self.token,
            "aws_endpoint_url_s3": self.endpoint,  # else that of the environment counts more than the one of the URL
        }  # fmt: skip
        return {name: value for name, value in settings.items() if value}


def credentials(location: BucketLocation) -> Credentials:
    """Return what the URL, the environment and ~/.aws say, in this order. Raises UsageError."""
    return replace(_credentials(location), ca=_ca(location))


def _ca(location: BucketLocation) -> Path | None:
    """Return the file of the CA whose certificates count besides those of the system. Raises UsageError."""
    profile = os.environ.get("AWS_PROFILE", "")
    bundle = os.environ.get("AWS_CA_BUNDLE") or _profile(location.url, profile or "default", False).get("ca_bundle")
    return location.ca or (Path(bundle).expanduser() if bundle else None)


def _credentials(location: BucketLocation) -> Credentials:
    environment = os.environ
    profile = environment.get("AWS_PROFILE", "")
    has_key = bool(environment.get("AWS_ACCESS_KEY_ID"))
    settings = _profile(location.url, profile or "default", required=bool(profile) and not has_key)
    region = location.region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    endpoint = location.endpoint or environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    endpoint = endpoint or settings.get("endpoint_url", "")
    if endpoint:
        try:
            parse_endpoint(endpoint)
        except WrongAddress as error:  # its text may have a password in it
            hint = error.hint if "@" not in endpoint else ""
            why = "it must be http://host:port or https://host:port"
            raise UsageError(f"{location.url}: the endpoint of the environment is wrong: {why}", hint=hint) from None
    region = region or settings.get("region") or (REGION if endpoint else "")
    if not region:
        raise UsageError(f"{location.url}: the region is missing", hint="add ?region=, or set $AWS_REGION")
    if has_key:
        if not environment.get("AWS_SECRET_ACCESS_KEY"):
            raise UsageError(f"{location.url}: $AWS_ACCESS_KEY_ID is set without $AWS_SECRET_ACCESS_KEY")
        return Credentials(
            endpoint, region, environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"],
            environment.get("AWS_SESSION_TOKEN", ""),
        )  # fmt: skip
    if settings.get("aws_access_key_id") and settings.get("aws_secret_access_key"):
        return Credentials(
            endpoint, region, settings["aws_access_key_id"], settings["aws_secret_access_key"],
            settings.get("aws_session_token", ""),
        )  # fmt: skip
    tool = next((name for name in TOOLS if settings.get(name)), "")
    if tool and not any(map(environment.get, ROLES)):
        hint = 'eval "$(aws configure export-credentials --format env)"'
        raise UsageError(f"{location.url}: the profile {profile or 'default'} uses {tool}", hint=hint)
    if endpoint and not any(map(environment.get, ROLES)):
        raise UsageError(f"{location.url}: no credentials", hint=HOW_TO_LOG_IN)
    return Credentials(endpoint, region)


def _profile(url: str, name: str, required: bool) -> Mapping[str, str]:
    """Return the settings of a profile in ~/.aws/config and ~/.aws/credentials; those of the second count more."""
    settings: dict[str, str] = {}
    is_there = False
    for variable, default, section in (
        ("AWS_CONFIG_FILE", "~/.aws/config", name if name == "default" else f"profile {name}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", name),
    ):
        path = Path(os.environ.get(variable) or default).expanduser()
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            why = getattr(error, "strerror", None) or "it is no INI file"  # its text may have a secret in it
            raise UsageError(f"{url}: cannot read {path}: {why}") from None
        if parser.has_section(section):
            is_there = True
            settings.update(parser.items(section))
    if required and not is_there:
        raise UsageError(f"{url}: there is no profile {name} in ~/.aws", hint="check $AWS_PROFILE")
    return settings
