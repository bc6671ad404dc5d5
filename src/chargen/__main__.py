"""`python -m chargen <command>`."""

from chargen.cli import main

if __name__ == "__main__":
    main()
