"""Names of Lambda functions, read from and written as ARNs."""

import re
from dataclasses import dataclass, replace
from typing import Self

from immortal_lambda.errors import ImmortalError
from immortal_lambda.quotes import quote

_FUNCTION = re.compile(
    r"arn:(?P<partition>aws[a-z-]{0,20}):lambda:(?P<region>[a-z0-9-]{1,40}):(?P<account>[0-9]{12})"
    r":function:(?P<name>[A-Za-z0-9_-]{1,140})(?::(?P<qualifier>\$LATEST|[A-Za-z0-9_-]{1,129}))?"
)


class NotAFunctionArn(ImmortalError):
    """The text names no Lambda function; trying again cannot help."""


@dataclass(frozen=True, slots=True)
class FunctionArn:
    """One function, or one version or alias of it.

    Attributes:
        partition: ``aws``, ``aws-cn`` or ``aws-us-gov``.
        qualifier: Version number, alias or ``$LATEST``; None when the ARN names none.
    """

    partition: str
    region: str
    account: str
    name: str
    qualifier: str | None = None

    @classmethod
    def read(cls, text: str) -> Self:
        """Read an ARN.

        Raises:
            NotAFunctionArn: The text is something else.
        """
        match = _FUNCTION.fullmatch(text)
        if match is None:
            raise NotAFunctionArn(f"{quote(text)} is no ARN of a Lambda function")
        return cls(**match.groupdict())

    def __str__(self) -> str:
        arn = f"arn:{self.partition}:lambda:{self.region}:{self.account}:function:{self.name}"
        return arn if self.qualifier is None else f"{arn}:{self.qualifier}"

    @property
    def unqualified(self) -> "FunctionArn":
        """The function itself, without version or alias."""
        return replace(self, qualifier=None)

    @property
    def as_invoked(self) -> "FunctionArn":
        """The ARN that the context showed on Lambda.

        A destination's record ends in ``:$LATEST`` where the caller named no qualifier; the context showed the bare
        ARN. A real version or alias stays.

        Source: answers recorded from AWS in November 2025.
        """
        return self.unqualified if self.qualifier == "$LATEST" else self
