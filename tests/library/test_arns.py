import pytest

from immortal_lambda.arns import FunctionArn, NotAFunctionArn

BARE = "arn:aws:lambda:eu-west-1:111122223333:function:report-builder"


@pytest.mark.parametrize(
    "arn", [BARE, f"{BARE}:$LATEST", f"{BARE}:17", f"{BARE}:live", BARE.replace("aws:", "aws-cn:", 1)]
)
def test_an_arn_is_read_and_written_alike(arn: str) -> None:
    assert str(FunctionArn.read(arn)) == arn


@pytest.mark.parametrize(
    ("arn", "invoked"), [(f"{BARE}:$LATEST", BARE), (f"{BARE}:live", f"{BARE}:live"), (BARE, BARE)]
)
def test_the_context_shows_no_latest(arn: str, invoked: str) -> None:
    assert str(FunctionArn.read(arn).as_invoked) == invoked


@pytest.mark.parametrize(
    "text", ["", "report-builder", BARE.replace("lambda", "sqs"), f"{BARE}:a b", f"{BARE}\n", f"x{BARE}"]
)
def test_other_texts_are_no_arn(text: str) -> None:
    with pytest.raises(NotAFunctionArn):
        FunctionArn.read(text)
