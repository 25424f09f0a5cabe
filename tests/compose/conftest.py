"""These tests need a container engine and build every image: only ./run_tests.sh --compose collects them."""

import os

collect_ignore = [] if os.environ.get("KEYMISS_TEST_COMPOSE") == "yes" else ["test_composition.py"]
