"""`python -m barnabas` is the `barnabas` command."""

from barnabas.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
