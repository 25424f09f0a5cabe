import sys

from keymiss.worker.main import main

if __name__ == "__main__":
    sys.exit(main())
