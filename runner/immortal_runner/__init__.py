"""The task: function, execution environment, outcome."""
