"""The command line: `keymiss`, in a checkout scripts/keymiss."""
