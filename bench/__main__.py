"""Runs every measurement and prints one line for each."""

from bench import dispatch, imports, letter_to_handler, runner_start

print(f"{'MEASURED':<62} {'FOUND':>12} {'PEER OR LIMIT':>32}")
for measure in (imports.measure, dispatch.measure, runner_start.measure, letter_to_handler.measure):
    for line in measure():
        print(f"{line.what:<62} {line.found:>12} {line.against:>32}", flush=True)
