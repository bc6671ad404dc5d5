"""`python -m chargen <command>`."""

from chargen.cli.app import main

if __name__ == "__main__":
    main()
