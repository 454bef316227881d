"""The two Lambda functions of the safety net: letters in, runs recorded, tasks started; and the reconciler."""
