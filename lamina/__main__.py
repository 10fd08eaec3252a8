"""`python -m lamina`."""

from lamina.cli.start import main

main()
