"""The commands, one module each; `loadtests.cli` puts them in the order of the help text.

A command module offers `add_parser(commands)` and sets `execute(arguments, terminal)`,
which returns an ExitCode. Loading Locust takes a second, so the commands that start
a swarm import it inside `execute`.
"""
