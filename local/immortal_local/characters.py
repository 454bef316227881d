"""Characters: which of them XML can't carry, and therefore neither the query protocol nor an SQS message."""

import re

__all__ = ["NOT_XML"]

NOT_XML = re.compile("[^\u0009\u000a\u000d\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Source: XML 1.0, "Char"; SendMessage's reference names the same ones."""
