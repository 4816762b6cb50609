#!/bin/bash
# A training job, written by `segue submit`. Whenever it starts it goes on from the run's newest
# checkpoint; `sbatch` on this file submits it again.

# The run's name. Of jobs with one name only one runs at a time: two never train the same run.
@@{name}
@@{dependency}
# Where `segue submit` was given: the config's relative paths start here.
@@{chdir}
# What the job prints; after a requeue it goes on in the same file.
@@{output}
#SBATCH --open-mode=append
# SLURM may start the job again after a preemption or the loss of a node.
#SBATCH --requeue
# One task on each node, in which accelerate starts the node's processes.
@@{nodes}
#SBATCH --ntasks-per-node=1
# Cores of a node, for its processes and their loader workers.
@@{cpus}
@@{time}
# This script gets SIGUSR1 so many seconds before the time limit: enough for a step and a save.
@@{signal}
@@{asked}
set -eo pipefail
@@{setup}set -u

# The copies of the code and the settled config that were made when the job was submitted.
submitted=@@{submitted}
run=@@{run}
export PYTHONPATH="$submitted/code${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONSAFEPATH=1  # and not the code that lies in the working folder
@@{python}
# Processes on each node.
processes=@@{processes}
@@{cpu}
# Where the nodes meet: on the first one, at a port that depends on the job and that nothing uses.
nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${SEGUE_HEAD_ADDRESS:-${nodes%%$'\n'*}}
port=${SEGUE_PORT:-$((10000 + SLURM_JOB_ID % 20000))}
while (exec 3<> "/dev/tcp/$head/$port") 2> /dev/null; do
    port=$((port + 1))
done
rm -f "$run/STOP" "$run/SAVE" # they were meant for the start before
restarts=${SLURM_RESTART_COUNT:-0}
echo "job $SLURM_JOB_ID, start $((restarts + 1)): $SLURM_NNODES nodes, $processes processes each," \
    "meet at $head:$port"

# What accelerate is told; each node adds its own rank, and that node 0 listens.
launch=(
    --config_file "$submitted/code/configs/accelerate/"@@{accelerate_config}
    --num_machines "$SLURM_NNODES"
    --num_processes "$((SLURM_NNODES * processes))"
    --main_process_ip "$head"
    --main_process_port "$port"
)
if ((SLURM_NNODES > 1)); then
    launch+=(--rdzv_backend c10d --deepspeed_multinode_launcher standard)
fi
launch+=(-m pretrain "$submitted/config.yaml")
# SLURM_NODEID differs from node to node: the single quotes leave it to each node's own shell.
# shellcheck disable=SC2016
on_each_node='exec "$0" -m launch.node "$1" --machine_rank "$SLURM_NODEID" \
    --rdzv_conf "is_host=$((SLURM_NODEID == 0)),join_timeout=600,read_timeout=600" "${@:2}"'

# SIGUSR1 (the time limit is near) and SIGTERM (preemption) are passed on to every node; all
# processes stop after the step, save, and leave with exit code 75.
warned=""
trap 'warned=yes; kill -USR1 "$step" 2> /dev/null || true; again=yes' USR1 TERM
# srun does not inherit --cpus-per-task. When one node ends, the others have 120 s to end too.
srun --export=ALL --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=0 --wait=120@@{step} \
    @@{inside}bash -c "$on_each_node" "$python" "$run" "${launch[@]}" &
step=$!
again=yes
while [[ $again ]]; do # a signal ends the waiting, not the step
    again="" code=0
    wait "$step" || code=$?
done

# What becomes of the job: `requeue`, `requeue NODES` (without those) or `end`. It is requeued
# after a signal and a failure, so often at most; not when it was cancelled, nor after a mistake.
job=$SLURM_JOB_ID
if [[ ${SLURM_ARRAY_JOB_ID:-} ]]; then
    job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID # the last task has the id of the whole array
fi
shown=$(scontrol show job --oneliner "$job" || true)
state=$(grep -o 'JobState=[A-Z]*' <<< "$shown" || true)
without=$(grep -o 'ExcNodeList=[^ ]*' <<< "$shown" || true)
verdict=$(@@{alone}"$python" -m slurm.after "$run" --job "$SLURM_JOB_ID" --code "$code" \
    --state "${state#JobState=}" --without "${without#ExcNodeList=}" --restarts "$restarts" \
    --nodes "$nodes" --warned "$warned"@@{limits}) || verdict=end
if [[ $verdict == requeue* ]]; then
    trap "" TERM # requeuing ends this script
    scontrol requeue "$job"
    if [[ $verdict == "requeue "* ]]; then
        scontrol update JobId="$job" ExcNodeList="${verdict#requeue }"
    fi
fi
exit "$code"
