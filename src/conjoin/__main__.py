"""`python -m conjoin` is the command `conjoin`."""

from conjoin.cli import main

main()
