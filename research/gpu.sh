#!/usr/bin/env bash
# What is still to be measured on a GPU, in parts of about ten minutes each. None of it has been run.
#
#   bash research/gpu.sh base  OUT           a base model of 30 M parameters for the benchmark
#   bash research/gpu.sh skills OUT          one seed of skills-gpu with it; run again to go on
#   bash research/gpu.sh speed OUT MODEL DATA  tokens per second, and memory against the plan
#   bash research/gpu.sh asdiv OUT MODEL DATA  configs/asdiv-smollm2.yaml; run again to go on
#
# MODEL: a folder of research/smollm2.py; DATA: a folder `asdiv` of
# research/worded_traces.py (all three as whole paths). All results
# are below OUT; `timeout` ends each part, and the studies go on where they were.
set -euo pipefail
part=$1 out=$2 model=${3:-} data=${4:-}
mkdir -p "$out"
ten() { timeout 590 "$@" || [ $? -eq 124 ]; }
case $part in
  base)
    ten python -m research.base_model --size 30m --out "$out/skills-30m" ;;
  skills)
    ten activeselect compare --config skills-gpu --model "$out/skills-30m" --out "$out/skills" \
      --seeds '[100]' ;;
  speed)
    ten python benchmarks/generation.py --model "$model" --data "$data/test.jsonl" --device cuda \
      --prompts 256 --samples 4 --memory 65536 | tee "$out/generation.txt"
    ten python benchmarks/memory.py --model "$model" --data "$data" | tee "$out/memory.txt" ;;
  asdiv)
    cd "$(dirname "$data")" && [ "$(basename "$data")" = asdiv ]  # the config's name for it
    ten activeselect compare --config asdiv-smollm2 --model "$model" --out "$out/smollm2-study" ;;
  *)
    echo "expected base, skills, speed or asdiv; received $part" >&2; exit 2 ;;
esac
