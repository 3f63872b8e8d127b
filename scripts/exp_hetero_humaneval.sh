#!/usr/bin/env bash
# GPT-4o as mentor (its 200B parameters are an assumption, as in the paper) and R1-Distill-Qwen 7B as intern,
# on HumanEval. HumanEval has no training split: the MATH classifier is transferred, and the rows that
# exp_hetero_math.sh collected are reused.
# Needs OPENAI_API_KEY; set COLLECT="--max-usd X". Variables: see experiment.sh.
MENTOR=${MENTOR:-gpt-4o}
MENTOR_TYPE=${MENTOR_TYPE:-api}
MENTOR_PARAMETERS=${MENTOR_PARAMETERS-200e9}
INTERN=${INTERN:-deepseek-7b}
TRAIN=${TRAIN:-math}
TRAIN_SPLIT=${TRAIN_SPLIT-train}
TEST=${TEST:-humaneval}
NAME=humaneval
OUT=${OUT:-experiments/hetero}
. "$(dirname "${BASH_SOURCE[0]}")/experiment.sh"
