"""What ``python -m xconv`` runs. The library imports nothing from here.

Each subcommand has the module of its name, with a function ``run``; the other modules are their parts.
"""
