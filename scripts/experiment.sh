# What the exp_*.sh have in common: collect on the training problems, train, evaluate everything on the test problems.
# Each of them sets its own variables and sources this file; every variable can be set in the environment.
#
#   MENTOR, INTERN          the pair
#   MENTOR_GPUS, INTERN_GPUS, MENTOR_TENSOR_PARALLEL, INTERN_TENSOR_PARALLEL
#                           where local models run, on their own vLLM replicas
#   MENTOR_ENDPOINT, INTERN_ENDPOINT
#                           running servers (one URL, or several with commas); no GPU is then used
#   RAY                     "local", or a cluster's address: replicas as Ray actors
#   TRAIN, TEST             data sets; TRAIN_SPLIT, TEST_SPLIT their splits
#   LIMIT, TEST_LIMIT       problems of each (default: 1000, and all)
#   EFFORT, MAX_TOKENS, TEMPERATURE, WORKERS, CONCURRENCY, MENTOR_PARAMETERS
#   OUT                     folder; the same command continues where it stopped
#   COLLECT                 further options of tandem collect, as in COLLECT="--max-usd 20 --hints"
#   TANDEM                  the command (default: tandem)
#
# Test rows are collected like training rows and replayed, so that evaluating an operating point generates nothing. The
# published figures cap the mentor at 4,096 tokens and use temperature 0; so do the defaults.

set -eu

read -ra tandem <<<"${TANDEM:-tandem}"
: "${EFFORT:=none,low=100,medium=500,high=1000,answer}"
: "${MAX_TOKENS:=4096}" "${TEMPERATURE:=0}" "${WORKERS:=4}" "${CONCURRENCY:=128}" "${LIMIT:=1000}"
: "${INTERN_GPUS:=4,5,6,7}" "${INTERN_TENSOR_PARALLEL:=1}"

pair=(--mentor "$MENTOR" --mentor-type "$MENTOR_TYPE" --intern "$INTERN")
if [ -n "${MENTOR_PARAMETERS:-}" ]; then pair+=(--mentor-parameters "$MENTOR_PARAMETERS"); fi
if [ -n "${MENTOR_ENDPOINT:-}" ]; then
  pair+=(--mentor-endpoint "$MENTOR_ENDPOINT")
elif [ "$MENTOR_TYPE" = local ]; then
  pair+=(--mentor-gpus "$MENTOR_GPUS" --mentor-tensor-parallel "$MENTOR_TENSOR_PARALLEL")
fi
if [ -n "${INTERN_ENDPOINT:-}" ]; then
  pair+=(--intern-endpoint "$INTERN_ENDPOINT")
elif [ "$INTERN" != fake ]; then
  pair+=(--intern-gpus "$INTERN_GPUS" --intern-tensor-parallel "$INTERN_TENSOR_PARALLEL")
fi
if [ -n "${RAY:-}" ]; then pair+=(--ray "$RAY"); fi
how=(--effort "$EFFORT" --mentor-max-tokens "$MAX_TOKENS" --intern-max-tokens "$MAX_TOKENS" --temperature "$TEMPERATURE"
  --seed 0 --allow-code-execution --sandbox "${SANDBOX:-bwrap}" --parallel --num-workers "$WORKERS" --concurrency "$CONCURRENCY")
read -ra more <<<"${COLLECT:-}"

collect() { # folder, data set, split, limit
  local data=(--dataset "$2")
  if [ -n "$3" ]; then data+=(--split "$3"); fi
  if [ -n "$4" ]; then data+=(--limit "$4"); fi
  "${tandem[@]}" collect "${pair[@]}" "${how[@]}" ${more[@]+"${more[@]}"} "${data[@]}" --out "$1"
}

collect "$OUT/train" "$TRAIN" "${TRAIN_SPLIT:-}" "$LIMIT"
collect "$OUT/test-$NAME" "$TEST" "${TEST_SPLIT:-}" "${TEST_LIMIT:-}"
"${tandem[@]}" train "$OUT/train" --out "$OUT/classifier"
"${tandem[@]}" train "$OUT/train" --evaluate "$OUT/test-$NAME" --report "$OUT/$NAME.md"
