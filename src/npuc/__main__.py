"""python -m npuc: the npuc command."""

from npuc.compiler.cli import main

if __name__ == "__main__":
    main()
