#!/bin/sh
# Stores the models, the functions and the articles, as bootstrap_benchmark.sh does; what is there already stays.
# With arguments: that command instead, as `docker-compose run --rm loader python -m keymiss.cli pipeline`.
# KEYMISS_CORPUS: the folder with articles and concepts.csv.
set -eu

[ $# = 0 ] || exec "$@"
corpus=${KEYMISS_CORPUS:-data/sample}

# A failover meanwhile is no fault: the same again stores what is missing.
python -m keymiss.models.load || python -m keymiss.models.load
python -m keymiss.models.load_encoder || python -m keymiss.models.load_encoder
python -m keymiss.cli gears upload gears/*.py
[ ! -e "$corpus/concepts.csv" ] || python -m keymiss.cli concepts load "$corpus/concepts.csv"
python -m keymiss.cli load --timeout-s "${KEYMISS_LOAD_TIMEOUT_S:-600}" "$corpus"
python -m keymiss.cli pipeline
