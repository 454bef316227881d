"""How a function is named on the command line when it is meant as a whole: by its name or its ARN."""

from immortal_cli.errors import Failed
from immortal_lambda.arns import FunctionArn, NotAFunctionArn


def read_name(text: str) -> str:
    """Give the name of the function that a name or an ARN names.

    Raises:
        Failed: It names a version or an alias, and an attachment belongs to the function as a whole; or it is an ARN of
            something else.
    """
    name, qualifier = _read_arn(text) if text.startswith("arn:") else _read_bare(text)
    if qualifier:
        raise Failed(
            f"{text} names a version or an alias, and an attachment belongs to the function as a whole, with all its "
            f"versions. Next step: name it {name}"
        )
    return name


def _read_arn(text: str) -> tuple[str, str | None]:
    try:
        read = FunctionArn.read(text)
    except NotAFunctionArn as error:
        raise Failed(f"{error}. Next step: name the function, or give its ARN") from error
    return read.name, read.qualifier


def _read_bare(text: str) -> tuple[str, str]:
    if ":function:" in text:
        raise Failed(f"{text} is a part of an ARN. Next step: name the function, or give its whole ARN")
    name, _, qualifier = text.partition(":")
    return name, qualifier
