#!/usr/bin/env bash
# GPT-4o as mentor (its 200B parameters are an assumption, as in the paper) and R1-Distill-Qwen 7B as intern,
# on MATH: trained on the training split, evaluated on MATH-500. Needs OPENAI_API_KEY; set COLLECT="--max-usd X".
# Variables: see experiment.sh.
MENTOR=${MENTOR:-gpt-4o}
MENTOR_TYPE=${MENTOR_TYPE:-api}
MENTOR_PARAMETERS=${MENTOR_PARAMETERS-200e9}
INTERN=${INTERN:-deepseek-7b}
TRAIN=${TRAIN:-math}
TRAIN_SPLIT=${TRAIN_SPLIT-train}
TEST=${TEST:-math500}
NAME=math
OUT=${OUT:-experiments/hetero}
. "$(dirname "${BASH_SOURCE[0]}")/experiment.sh"
