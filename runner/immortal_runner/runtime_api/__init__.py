"""The servers that the code inside an execution environment talks to: the Runtime API and the Extensions API."""
