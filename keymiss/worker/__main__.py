import sys

from keymiss.worker.lifecycle import main

if __name__ == "__main__":
    sys.exit(main())
