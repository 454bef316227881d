"""Runs every measurement and prints one line for each."""

from bench import dispatch, extraction, imports, invocations, letter_to_handler, logs, memory, runner_start

print(f"{'MEASURED':<62} {'FOUND':>12} {'PEER OR LIMIT':>32}")
for each in (imports, dispatch, extraction, runner_start, memory, letter_to_handler, logs, invocations):
    for line in each.measure():
        print(f"{line.what:<62} {line.found:>12} {line.against:>32}", flush=True)
