"""The account's own container registry, Amazon ECR: a repository for the runner's images, and the way in."""

import base64
import json
from dataclasses import dataclass, field

from immortal_cli.aws import Account

_KEEP_UNTAGGED_DAYS = 14

LIFECYCLE = {
    "rules": [
        {
            "rulePriority": 1,
            "description": "Remove what an interrupted push left behind",
            "selection": {
                "tagStatus": "untagged",
                "countType": "sinceImagePushed",
                "countUnit": "days",
                "countNumber": _KEEP_UNTAGGED_DAYS,
            },
            "action": {"type": "expire"},
        }
    ]
}
"""Images with a tag are kept: a task definition may name any of them, and a task whose image is gone never starts."""


@dataclass(frozen=True, slots=True)
class Login:
    """What lets the Docker engine push; valid for 12 hours."""

    user: str
    password: str = field(repr=False)


def open_repository(account: Account, name: str) -> str:
    """Find a repository, or make it: its tags never move, and what is pushed is scanned.

    Returns:
        Its address, ``host/name``.
    """
    ecr = account.client("ecr")
    try:
        return str(ecr.describe_repositories(repositoryNames=[name])["repositories"][0]["repositoryUri"])
    except ecr.exceptions.RepositoryNotFoundException:
        made = ecr.create_repository(
            repositoryName=name, imageTagMutability="IMMUTABLE", imageScanningConfiguration={"scanOnPush": True}
        )
        ecr.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=json.dumps(LIFECYCLE))
        return str(made["repository"]["repositoryUri"])


def find_pushed(account: Account, repository: str, tag: str) -> str | None:
    """The digest of an image that the repository has already, by its tag; None when it has none."""
    ecr = account.client("ecr")
    try:
        found = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])["imageDetails"]
    except ecr.exceptions.ImageNotFoundException:
        return None
    return str(found[0]["imageDigest"])


def log_in(account: Account) -> Login:
    """Ask for a token; it carries user and password.

    Source: ECR API reference, "AuthorizationData".
    """
    token = account.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, _, password = base64.b64decode(token).decode().partition(":")
    return Login(user, password)
