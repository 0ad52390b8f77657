"""`python -m ragcun_cli`."""

from ragcun_cli.app import main

main()
