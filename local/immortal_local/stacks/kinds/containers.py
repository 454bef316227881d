"""ECS clusters and task definitions, and image repositories."""

import json
from collections.abc import Mapping

from immortal_local.stacks.kinds.calls import call, gone_is_fine, pick
from immortal_local.stacks.resources import Kind, Made, Maker, Properties, changed_properties, retag, tag_map

__all__ = ["KINDS"]


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


# Clusters


def _create_cluster(maker: Maker, properties: Properties) -> Made:
    name = maker.name(properties, "ClusterName", longest=255)
    request = {
        "clusterName": name,
        "settings": properties.get("ClusterSettings"),
        **pick(properties, "CapacityProviders", "DefaultCapacityProviderStrategy", "Configuration"),
        "tags": _tag_list(tag_map(properties)) or None,
    }
    arn = call(maker, "ecs", "CreateCluster", request)["cluster"]["clusterArn"]
    return Made(name, {"Arn": arn})


def _update_cluster(maker: Maker, made: Made, old: Properties, new: Properties) -> Made:
    changed = changed_properties(old, new)
    if changed & {"ClusterSettings", "Configuration"}:
        request = {"cluster": made.id, "settings": new.get("ClusterSettings"), **pick(new, "Configuration")}
        call(maker, "ecs", "UpdateCluster", request)
    if changed & {"CapacityProviders", "DefaultCapacityProviderStrategy"}:
        _associate(maker, made.id, new)
    arn = made.attributes["Arn"]
    retag(
        old,
        new,
        add=lambda tags: call(maker, "ecs", "TagResource", {"resourceArn": arn, "tags": _tag_list(tags)}),
        take=lambda keys: call(maker, "ecs", "UntagResource", {"resourceArn": arn, "tagKeys": keys}),
    )
    return made


def _remove_cluster(maker: Maker, made: Made, _: Properties) -> None:
    with gone_is_fine():
        call(maker, "ecs", "DeleteCluster", {"cluster": made.id})


def _associate(maker: Maker, cluster: str, properties: Properties) -> None:
    request = {
        "cluster": cluster,
        "capacityProviders": properties.get("CapacityProviders") or [],
        "defaultCapacityProviderStrategy": properties.get("DefaultCapacityProviderStrategy") or [],
    }
    call(maker, "ecs", "PutClusterCapacityProviders", request)


def _create_association(maker: Maker, properties: Properties) -> Made:
    _associate(maker, properties["Cluster"], properties)
    return Made(properties["Cluster"])


def _remove_association(maker: Maker, made: Made, _: Properties) -> None:
    with gone_is_fine():
        _associate(maker, made.id, {})


# Task definitions

DEFINITION = (
    "ContainerDefinitions",
    "Cpu",
    "EphemeralStorage",
    "ExecutionRoleArn",
    "Memory",
    "NetworkMode",
    "PidMode",
    "RequiresCompatibilities",
    "RuntimePlatform",
    "TaskRoleArn",
    "Volumes",
)


def _create_definition(maker: Maker, properties: Properties) -> Made:
    family = properties.get("Family") or maker.name({}, "", longest=255).replace("-", "")
    request = {
        "family": family,
        **pick(properties, *DEFINITION),
        "tags": _tag_list(tag_map(properties)) or None,
    }
    arn = call(maker, "ecs", "RegisterTaskDefinition", request)["taskDefinition"]["taskDefinitionArn"]
    return Made(arn, {"TaskDefinitionArn": arn})


def _remove_definition(maker: Maker, made: Made, _: Properties) -> None:
    with gone_is_fine():
        call(maker, "ecs", "DeregisterTaskDefinition", {"taskDefinition": made.id})


# Image repositories


def _create_repository(maker: Maker, properties: Properties) -> Made:
    name = maker.name(properties, "RepositoryName", longest=256).lower()
    request = {
        "repositoryName": name,
        **pick(properties, "ImageTagMutability", "ImageScanningConfiguration", "EncryptionConfiguration"),
        "tags": [{"Key": key, "Value": value} for key, value in tag_map(properties).items()] or None,
    }
    repository = call(maker, "ecr", "CreateRepository", request)["repository"]
    maker.begin(Made(name))
    _set_repository_texts(maker, name, {}, properties)
    return Made(name, {"Arn": repository["repositoryArn"], "RepositoryUri": repository["repositoryUri"]})


def _set_repository_texts(maker: Maker, name: str, old: Properties, new: Properties) -> None:
    changed = changed_properties(old, new)
    if "RepositoryPolicyText" in changed and new.get("RepositoryPolicyText"):
        request = {"repositoryName": name, "policyText": json.dumps(new["RepositoryPolicyText"])}
        call(maker, "ecr", "SetRepositoryPolicy", request)
    elif "RepositoryPolicyText" in changed:
        call(maker, "ecr", "DeleteRepositoryPolicy", {"repositoryName": name})
    before, after = (each.get("LifecyclePolicy", {}).get("LifecyclePolicyText") for each in (old, new))
    if after and after != before:
        call(maker, "ecr", "PutLifecyclePolicy", {"repositoryName": name, "lifecyclePolicyText": after})
    elif before and not after:
        call(maker, "ecr", "DeleteLifecyclePolicy", {"repositoryName": name})


def _update_repository(maker: Maker, made: Made, old: Properties, new: Properties) -> Made:
    changed = changed_properties(old, new)
    if "ImageTagMutability" in changed:
        request = {"repositoryName": made.id, "imageTagMutability": new.get("ImageTagMutability", "MUTABLE")}
        call(maker, "ecr", "PutImageTagMutability", request)
    if "ImageScanningConfiguration" in changed:
        scanning = new.get("ImageScanningConfiguration") or {"ScanOnPush": False}
        request = {"repositoryName": made.id, "imageScanningConfiguration": scanning}
        call(maker, "ecr", "PutImageScanningConfiguration", request)
    _set_repository_texts(maker, made.id, old, new)
    return made


def _remove_repository(maker: Maker, made: Made, properties: Properties) -> None:
    with gone_is_fine():
        force = properties.get("EmptyOnDelete", False)
        call(maker, "ecr", "DeleteRepository", {"repositoryName": made.id, "force": force})


KINDS: Mapping[str, Kind] = {
    "AWS::ECS::Cluster": Kind(
        properties=frozenset(
            {
                "CapacityProviders",
                "ClusterName",
                "ClusterSettings",
                "Configuration",
                "DefaultCapacityProviderStrategy",
                "Tags",
            }
        ),
        create=_create_cluster,
        update=_update_cluster,
        remove=_remove_cluster,
        fixed=frozenset({"ClusterName"}),
        name="ClusterName",
    ),
    "AWS::ECS::ClusterCapacityProviderAssociations": Kind(
        properties=frozenset({"CapacityProviders", "Cluster", "DefaultCapacityProviderStrategy"}),
        required=frozenset({"CapacityProviders", "Cluster", "DefaultCapacityProviderStrategy"}),
        create=_create_association,
        update=lambda maker, _, __, new: _create_association(maker, new),
        remove=_remove_association,
        fixed=frozenset({"Cluster"}),
    ),
    "AWS::ECS::TaskDefinition": Kind(
        properties=frozenset({*DEFINITION, "Family", "Tags"}),
        create=_create_definition,
        remove=_remove_definition,
    ),
    "AWS::ECR::Repository": Kind(
        properties=frozenset(
            {
                "EmptyOnDelete",
                "EncryptionConfiguration",
                "ImageScanningConfiguration",
                "ImageTagMutability",
                "LifecyclePolicy",
                "RepositoryName",
                "RepositoryPolicyText",
                "Tags",
            }
        ),
        create=_create_repository,
        update=_update_repository,
        remove=_remove_repository,
        fixed=frozenset({"RepositoryName", "EncryptionConfiguration", "Tags"}),
        name="RepositoryName",
    ),
}
