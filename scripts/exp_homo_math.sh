#!/usr/bin/env bash
# R1-Distill-Qwen 32B as mentor and 7B as intern, on MATH: trained on the training split, evaluated on MATH-500.
# Variables: see experiment.sh.
MENTOR=${MENTOR:-deepseek-32b}
MENTOR_TYPE=${MENTOR_TYPE:-local}
MENTOR_GPUS=${MENTOR_GPUS:-0,1,2,3}
MENTOR_TENSOR_PARALLEL=${MENTOR_TENSOR_PARALLEL:-4}
INTERN=${INTERN:-deepseek-7b}
TRAIN=${TRAIN:-math}
TRAIN_SPLIT=${TRAIN_SPLIT-train}
TEST=${TEST:-math500}
NAME=math
OUT=${OUT:-experiments/homo}
. "$(dirname "${BASH_SOURCE[0]}")/experiment.sh"
