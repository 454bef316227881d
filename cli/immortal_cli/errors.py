"""The end of every error: a message with a next step, and exit code 1 for what failed, 2 for what was asked wrongly."""

from typing import Any

import click

from immortal_cli.aws import describe_failure
from immortal_lambda.errors import ImmortalError


class Failed(ImmortalError):
    """What was asked could not be done; the message says why and what to do."""


class Commands(click.Group):
    """A group whose commands end without a traceback where the error is one that a person can act on."""

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the command that was asked for."""
        try:
            return super().invoke(ctx)
        except ImmortalError as error:
            raise click.ClickException(str(error)) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            described = describe_failure(error)
            if described is None:
                raise
            raise click.ClickException(described) from error
