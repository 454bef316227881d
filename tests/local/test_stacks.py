import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from immortal_local.server import LocalAws
from immortal_local.stacks.kinds import KINDS
from support.bench import NewName, zip_files

EVERYTHING = (Path(__file__).parent / "everything.yaml").read_text()
QUEUES = """
Parameters:
  Seconds: {Type: Number, Default: 30}
Resources:
  Dead: {Type: AWS::SQS::Queue, DeletionPolicy: Retain}
  Letters:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: !Ref Seconds
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 3}
Outputs:
  Url: {Value: !Ref Letters}
"""


class Deployer:
    """Deploys templates as scripts do, and looks at what became of them."""

    def __init__(self, local: LocalAws, name: str) -> None:
        self.local = local
        self.name = name
        self.cloudformation = local.client("cloudformation")

    def create(self, template: str, **request: Any) -> str:
        return str(
            self.cloudformation.create_stack(
                StackName=self.name, TemplateBody=template, Capabilities=["CAPABILITY_NAMED_IAM"], **request
            )["StackId"]
        )

    def update(self, template: str | None = None, **parameters: str) -> None:
        given = {"TemplateBody": template} if template else {"UsePreviousTemplate": True}
        self.cloudformation.update_stack(
            StackName=self.name, Capabilities=["CAPABILITY_NAMED_IAM"], Parameters=write_parameters(parameters), **given
        )

    def delete(self) -> None:
        self.cloudformation.delete_stack(StackName=self.name)

    def describe(self, name: str | None = None) -> dict[str, Any]:
        stack: dict[str, Any] = self.cloudformation.describe_stacks(StackName=name or self.name)["Stacks"][0]
        return stack

    @property
    def status(self) -> str:
        return str(self.describe()["StackStatus"])

    @property
    def outputs(self) -> dict[str, str]:
        return {output["OutputKey"]: output["OutputValue"] for output in self.describe()["Outputs"]}

    @property
    def ids(self) -> dict[str, str]:
        pages = self.cloudformation.list_stack_resources(StackName=self.name)["StackResourceSummaries"]
        return {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in pages}

    def events(self, name: str | None = None) -> list[tuple[str, str, str]]:
        events = self.cloudformation.describe_stack_events(StackName=name or self.name)["StackEvents"]
        return [
            (each["LogicalResourceId"], each["ResourceStatus"], each.get("ResourceStatusReason", ""))
            for each in reversed(events)
        ]


def write_parameters(parameters: dict[str, str]) -> list[dict[str, str]]:
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]


@pytest.fixture
def deployer(local: LocalAws, new_name: NewName) -> Deployer:
    return Deployer(local, new_name("stack"))


def get_attributes(local: LocalAws, url: str) -> dict[str, str]:
    answer: dict[str, str] = local.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])[
        "Attributes"
    ]
    return answer


@pytest.fixture
def layer_bucket(local: LocalAws, new_name: NewName) -> str:
    """A bucket with a layer's zip."""
    name = new_name("layers")
    local.client("s3").create_bucket(Bucket=name)
    local.client("s3").put_object(Bucket=name, Key="layer.zip", Body=zip_files({"python/answer.py": "ANSWER = 42\n"}))
    return name


def test_a_stack_of_everything_loses_no_property(deployer: Deployer, layer_bucket: str) -> None:
    parameters = write_parameters({"LayerBucket": layer_bucket})
    deployer.create(EVERYTHING, Parameters=parameters, Tags=[{"Key": "team", "Value": "x"}])

    failures = [event for event in deployer.events() if event[1].endswith("FAILED")]
    assert (deployer.status, failures) == ("CREATE_COMPLETE", [])
    local, ids = deployer.local, deployer.ids
    check_storage(local, ids)
    check_function(local, ids)
    check_task(local, ids)
    check_rest(local, ids)
    assert deployer.describe()["Parameters"][-1]["ParameterValue"] == "****"


def check_storage(local: LocalAws, ids: dict[str, str]) -> None:
    dynamodb, s3 = local.client("dynamodb"), local.client("s3")
    table = dynamodb.describe_table(TableName=ids["Ledger"])["Table"]
    backups = dynamodb.describe_continuous_backups(TableName=ids["Ledger"])["ContinuousBackupsDescription"]
    lifetime = dynamodb.describe_time_to_live(TableName=ids["Ledger"])["TimeToLiveDescription"]
    assert [index["IndexName"] for index in table["GlobalSecondaryIndexes"]] == ["by_status", "due"]
    assert table["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert table["DeletionProtectionEnabled"] is False
    assert table["SSEDescription"]["Status"] == "ENABLED"
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    assert lifetime == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}
    rule = s3.get_bucket_lifecycle_configuration(Bucket=ids["Payloads"])["Rules"][0]
    assert (rule["Expiration"]["Days"], rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]) == (7, 1)
    assert s3.get_bucket_versioning(Bucket=ids["Payloads"])["Status"] == "Enabled"
    assert s3.get_public_access_block(Bucket=ids["Payloads"])["PublicAccessBlockConfiguration"]["BlockPublicAcls"]
    assert s3.get_bucket_encryption(Bucket=ids["Payloads"])["ServerSideEncryptionConfiguration"]["Rules"]
    assert "SecureTransport" in s3.get_bucket_policy(Bucket=ids["Payloads"])["Policy"]
    assert s3.get_bucket_tagging(Bucket=ids["Payloads"])["TagSet"] == [{"Key": "team", "Value": "x"}]
    letters = get_attributes(local, ids["Letters"])
    assert json.loads(letters["RedrivePolicy"])["maxReceiveCount"] == 3
    assert "events.amazonaws.com" in letters["Policy"]


def check_function(local: LocalAws, ids: dict[str, str]) -> None:
    functions = local.client("lambda")
    answer = functions.get_function(FunctionName=ids["Function"])
    configuration = answer["Configuration"]
    dead = get_attributes(local, ids["Dead"])["QueueArn"]
    assert configuration["DeadLetterConfig"] == {"TargetArn": dead}
    assert (configuration["Timeout"], configuration["MemorySize"]) == (30, 256)
    assert configuration["EphemeralStorage"] == {"Size": 1024}
    assert configuration["LoggingConfig"]["LogGroup"] == ids["Group"]
    assert configuration["Environment"]["Variables"] == {
        "TABLE": ids["Ledger"],
        "SUBNETS": "subnet-1,subnet-2",
        "NUMBER": "5",
    }
    assert [layer["Arn"] for layer in configuration["Layers"]] == [ids["Layer"]]
    assert answer["Concurrency"] == {"ReservedConcurrentExecutions": 5}
    assert answer["Tags"] == {"own": "tag", "team": "x"}
    assert functions.get_alias(FunctionName=ids["Function"], Name="live")["FunctionVersion"] == "1"
    mapping = functions.get_event_source_mapping(UUID=ids["Mapping"])
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 5}
    config = functions.get_function_event_invoke_config(FunctionName=ids["Function"], Qualifier="$LATEST")
    assert (config["MaximumRetryAttempts"], config["DestinationConfig"]["OnFailure"]["Destination"]) == (0, dead)
    assert "events.amazonaws.com" in functions.get_policy(FunctionName=ids["Function"])["Policy"]
    assert json.load(functions.invoke(FunctionName=ids["Function"], Payload=b'{"a": 1}')["Payload"]) == {"a": 1}


def check_task(local: LocalAws, ids: dict[str, str]) -> None:
    ecs = local.client("ecs")
    task = ecs.describe_task_definition(taskDefinition=ids["Task"])["taskDefinition"]
    container = task["containerDefinitions"][0]
    assert (task["cpu"], task["memory"], task["networkMode"]) == ("256", "512", "awsvpc")
    assert task["requiresCompatibilities"] == ["FARGATE"]
    assert task["taskRoleArn"] == task["executionRoleArn"]
    assert task["ephemeralStorage"] == {"sizeInGiB": 21}
    assert container["stopTimeout"] == 120
    assert container["environment"] == [{"name": "IMMORTAL_LEDGER_TABLE", "value": ids["Ledger"]}]
    assert container["logConfiguration"]["options"]["awslogs-group"] == ids["Group"]
    cluster = ecs.describe_clusters(clusters=[ids["Cluster"]], include=["SETTINGS"])["clusters"][0]
    assert cluster["settings"] == [{"name": "containerInsights", "value": "enabled"}]
    assert cluster["capacityProviders"] == ["FARGATE", "FARGATE_SPOT"]


def check_rest(local: LocalAws, ids: dict[str, str]) -> None:
    iam, events, sns = local.client("iam"), local.client("events"), local.client("sns")
    assert iam.list_attached_role_policies(RoleName=ids["Role"])["AttachedPolicies"]
    assert sorted(iam.list_role_policies(RoleName=ids["Role"])["PolicyNames"]) == ["more", "p"]
    assert (
        local.client("logs").describe_log_groups(logGroupNamePrefix=ids["Group"])["logGroups"][0]["retentionInDays"]
        == 7
    )
    target = events.list_targets_by_rule(Rule=ids["Rule"])["Targets"][0]
    assert target["RetryPolicy"] == {"MaximumRetryAttempts": 3}
    subscription = sns.get_subscription_attributes(SubscriptionArn=ids["Subscription"])["Attributes"]
    assert subscription["RawMessageDelivery"] == "true"
    alarm = local.client("cloudwatch").describe_alarms(AlarmNames=[ids["Alarm"]])["MetricAlarms"][0]
    assert alarm["AlarmActions"] == [ids["Topic"]]
    group = local.client("ec2").describe_security_groups(GroupIds=[ids["Sg"]])["SecurityGroups"][0]
    assert [rule["FromPort"] for rule in group["IpPermissionsEgress"]] == [443]
    repository = local.client("ecr").describe_repositories(repositoryNames=[ids["Repo"]])["repositories"][0]
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}


def test_the_template_of_everything_has_every_type() -> None:
    assert [name for name in KINDS if f"Type: {name}" not in EVERYTHING] == []


def test_a_stack_of_everything_goes_but_for_what_is_retained(deployer: Deployer, layer_bucket: str) -> None:
    arn = deployer.create(EVERYTHING, Parameters=write_parameters({"LayerBucket": layer_bucket}))
    dead = deployer.ids["Dead"]

    deployer.delete()
    deployer.cloudformation.get_waiter("stack_delete_complete").wait(StackName=deployer.name)

    assert deployer.describe(arn)["StackStatus"] == "DELETE_COMPLETE"
    events = deployer.events(arn)
    assert [event[0] for event in events if event[1] == "DELETE_SKIPPED"] == ["Dead"]
    assert [event for event in events if event[1].endswith("FAILED")] == []
    left = [url for url in deployer.local.client("sqs").list_queues()["QueueUrls"] if deployer.name in url]
    assert left == [dead]
    with pytest.raises(ClientError, match="does not exist"):
        deployer.describe()


def test_what_has_not_changed_is_left_alone(deployer: Deployer) -> None:
    deployer.create(QUEUES)
    before = deployer.ids

    deployer.update(Seconds="31")

    assert deployer.status == "UPDATE_COMPLETE"
    assert deployer.ids == before
    assert get_attributes(deployer.local, before["Letters"])["VisibilityTimeout"] == "31"
    assert [event[0] for event in deployer.events() if event[1] == "UPDATE_COMPLETE"] == ["Letters", deployer.name]


def test_an_update_without_a_change_is_refused(deployer: Deployer) -> None:
    deployer.create(QUEUES)

    with pytest.raises(ClientError, match="No updates are to be performed"):
        deployer.update(QUEUES)
    assert deployer.status == "CREATE_COMPLETE"


def test_an_update_adds_replaces_and_removes(deployer: Deployer) -> None:
    deployer.create("Resources: {A: {Type: AWS::SQS::Queue}, B: {Type: AWS::SQS::Queue, Properties: {QueueName: one}}}")
    before = deployer.ids

    deployer.update("Resources: {B: {Type: AWS::SQS::Queue, Properties: {QueueName: two}}, C: {Type: AWS::SNS::Topic}}")

    assert set(deployer.ids) == {"B", "C"}
    assert deployer.ids["B"].endswith("/two")
    urls = deployer.local.client("sqs").list_queues()["QueueUrls"]
    assert before["A"] not in urls
    assert before["B"] not in urls


def test_a_property_that_is_taken_out_goes_back_to_its_default(deployer: Deployer) -> None:
    deployer.create("Resources: {Q: {Type: AWS::SQS::Queue, Properties: {VisibilityTimeout: 99}}}")

    deployer.update("Resources: {Q: {Type: AWS::SQS::Queue}}")

    assert get_attributes(deployer.local, deployer.ids["Q"])["VisibilityTimeout"] == "30"


def test_a_failed_creation_is_rolled_back_with_its_reason(deployer: Deployer) -> None:
    deployer.create(
        "Resources: {A: {Type: AWS::SQS::Queue}, B: {Type: AWS::SQS::Queue, DependsOn: A, Properties: {Wrong: 1}}}"
    )

    assert deployer.status == "ROLLBACK_COMPLETE"
    events = deployer.events()
    (failed,) = [event for event in events if event[1] == "CREATE_FAILED"]
    assert failed[0] == "B"
    assert "doesn't carry out Wrong; it carries out ContentBasedDeduplication, DelaySeconds" in failed[2]
    assert ("A", "DELETE_COMPLETE", "") in events
    assert not [url for url in deployer.local.client("sqs").list_queues().get("QueueUrls", []) if deployer.name in url]
    with pytest.raises(ClientError, match="ROLLBACK_COMPLETE state"):
        deployer.update("Resources: {A: {Type: AWS::SQS::Queue}}")
    deployer.delete()
    deployer.create("Resources: {A: {Type: AWS::SQS::Queue}}")
    assert deployer.status == "CREATE_COMPLETE"


def test_a_resource_that_fails_half_way_leaves_nothing(deployer: Deployer) -> None:
    rules = "{Rules: [{Status: Enabled, Transitions: []}]}"
    deployer.create(f"Resources: {{B: {{Type: AWS::S3::Bucket, Properties: {{LifecycleConfiguration: {rules}}}}}}}")

    assert deployer.status == "ROLLBACK_COMPLETE"
    assert "Transitions" in next(event[2] for event in deployer.events() if event[1] == "CREATE_FAILED")
    assert not [each for each in deployer.local.client("s3").list_buckets()["Buckets"] if deployer.name in each["Name"]]


def test_a_property_deep_inside_is_not_lost_either(deployer: Deployer) -> None:
    container = "{Name: runner, Image: x, Memory: 1, Wrong: 1}"
    deployer.create(
        f"Resources: {{T: {{Type: AWS::ECS::TaskDefinition, Properties: {{ContainerDefinitions: [{container}]}}}}}}"
    )

    assert "Wrong" in next(event[2] for event in deployer.events() if event[1] == "CREATE_FAILED")


def test_a_failed_update_puts_everything_back(deployer: Deployer) -> None:
    deployer.create(QUEUES)
    before = deployer.ids
    more = QUEUES.replace(
        "Outputs:", "  Bad: {Type: AWS::SNS::Topic, DependsOn: Letters, Properties: {TopicName: no spaces}}\nOutputs:"
    )

    deployer.update(more, Seconds="77")

    assert deployer.status == "UPDATE_ROLLBACK_COMPLETE"
    assert deployer.ids == before
    assert get_attributes(deployer.local, before["Letters"])["VisibilityTimeout"] == "30"
    deployer.update(Seconds="78")
    assert deployer.status == "UPDATE_COMPLETE"


def test_a_type_that_is_not_carried_out_is_refused_with_those_that_are(deployer: Deployer) -> None:
    with pytest.raises(ClientError, match=r"AWS::Kinesis::Stream; it carries out .*AWS::SQS::Queue"):
        deployer.create("Resources: {S: {Type: AWS::Kinesis::Stream}}")
    with pytest.raises(ClientError, match="does not exist"):
        deployer.describe()


def test_iam_needs_its_capability(deployer: Deployer) -> None:
    role = "Resources: {R: {Type: AWS::IAM::Role, Properties: {RoleName: named, AssumeRolePolicyDocument: {}}}}"
    with pytest.raises(
        deployer.cloudformation.exceptions.InsufficientCapabilitiesException, match="CAPABILITY_NAMED_IAM"
    ):
        deployer.cloudformation.create_stack(
            StackName=deployer.name, TemplateBody=role, Capabilities=["CAPABILITY_IAM"]
        )


def test_a_stack_cannot_be_created_twice(deployer: Deployer) -> None:
    deployer.create(QUEUES)
    with pytest.raises(deployer.cloudformation.exceptions.AlreadyExistsException):
        deployer.create(QUEUES)


def test_a_change_set_creates_updates_and_finds_no_change(deployer: Deployer) -> None:
    """The calls that ``aws cloudformation deploy`` makes, in its order."""
    deploy(deployer, QUEUES, kind="CREATE")
    assert deployer.status == "CREATE_COMPLETE"

    changes = deploy(deployer, QUEUES.replace("Default: 30", "Default: 40"), kind="UPDATE")
    assert [(each["Action"], each["LogicalResourceId"], each["Replacement"]) for each in changes] == [
        ("Modify", "Letters", "False")
    ]
    assert deployer.status == "UPDATE_COMPLETE"

    assert deploy(deployer, QUEUES.replace("Default: 30", "Default: 40"), kind="UPDATE") is None


def deploy(deployer: Deployer, template: str, *, kind: str) -> Any:
    client, names = deployer.cloudformation, {"StackName": deployer.name, "ChangeSetName": f"{kind.lower()}-1"}
    client.create_change_set(**names, TemplateBody=template, ChangeSetType=kind)
    change_set = client.describe_change_set(**names)
    if change_set["Status"] == "FAILED":
        assert "The submitted information didn't contain changes." in change_set["StatusReason"]
        client.delete_change_set(**names)
        return None
    client.get_waiter("change_set_create_complete").wait(**names)
    client.execute_change_set(**names)
    client.get_waiter(f"stack_{kind.lower()}_complete").wait(StackName=deployer.name)
    client.delete_change_set(**names)
    return [each["ResourceChange"] for each in change_set["Changes"]]


def test_a_template_is_fetched_from_s3(deployer: Deployer, new_name: NewName) -> None:
    s3, bucket = deployer.local.client("s3"), new_name("bucket")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="a/t.yaml", Body=QUEUES.encode())

    deployer.cloudformation.create_stack(
        StackName=deployer.name, TemplateURL=f"https://s3.us-east-1.amazonaws.com/{bucket}/a/t.yaml"
    )

    assert deployer.status == "CREATE_COMPLETE"
    assert deployer.cloudformation.get_template(StackName=deployer.name)["TemplateBody"] == QUEUES


def test_an_export_is_imported_and_held_while_it_is(deployer: Deployer, local: LocalAws, new_name: NewName) -> None:
    name = new_name("export")
    output = f"{{Value: !GetAtt Q.Arn, Export: {{Name: {name}}}}}"
    deployer.create(f"Resources: {{Q: {{Type: AWS::SQS::Queue}}}}\nOutputs: {{A: {output}}}")
    user = Deployer(local, new_name("stack"))
    user.create(f"Resources: {{T: {{Type: AWS::SNS::Topic, Properties: {{DisplayName: !ImportValue {name}}}}}}}")

    topic = local.client("sns").get_topic_attributes(TopicArn=user.ids["T"])["Attributes"]
    assert topic["DisplayName"] == deployer.outputs["A"]
    exports = local.client("cloudformation").list_exports()["Exports"]
    assert [each["Value"] for each in exports if each["Name"] == name] == [deployer.outputs["A"]]
    with pytest.raises(ClientError, match="in use"):
        deployer.delete()
    user.delete()
    deployer.delete()


def test_a_bucket_that_is_not_empty_keeps_its_stack(deployer: Deployer) -> None:
    deployer.create("Resources: {B: {Type: AWS::S3::Bucket}}")
    bucket = deployer.ids["B"]
    deployer.local.client("s3").put_object(Bucket=bucket, Key="k", Body=b"x")

    deployer.delete()

    assert deployer.status == "DELETE_FAILED"
    deployer.local.client("s3").delete_object(Bucket=bucket, Key="k")
    deployer.delete()
    with pytest.raises(ClientError, match="does not exist"):
        deployer.describe()


def test_a_protected_stack_is_not_deleted(deployer: Deployer) -> None:
    deployer.create(QUEUES, EnableTerminationProtection=True)
    with pytest.raises(ClientError, match="TerminationProtection"):
        deployer.delete()
