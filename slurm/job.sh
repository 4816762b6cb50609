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
# SIGUSR1 (the time limit is near) and SIGTERM (preemption) are passed on to every node; all
# processes stop after the step, save, and leave with exit code 75.
step="" warned="" again=""
trap 'warned=yes again=yes; [[ -z $step ]] || kill -USR1 "$step" 2> /dev/null || true' USR1 TERM
@@{setup}set -u

# The copies of the code and the settled config that were made when the job was submitted.
submitted=@@{submitted}
run=@@{run}
export PYTHONPATH="$submitted/code${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONSAFEPATH=1  # and not the code that lies in the working folder
@@{python}

# Where the nodes meet: on the first one, at a port that depends on the job and that nothing uses.
nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${SEGUE_HEAD_ADDRESS:-${nodes%%$'\n'*}}
restarts=${SLURM_RESTART_COUNT:-0}
port=${SEGUE_PORT:-$((10000 + (SLURM_JOB_ID + 7919 * restarts) % 20000))}
while (exec 3<> "/dev/tcp/$head/$port") 2> /dev/null; do
    port=$((port + 1))
done
echo "job $SLURM_JOB_ID, start $((restarts + 1)): $SLURM_NNODES nodes, @@{processes} processes" \
    "each, meet at $head:$port"

# Each node runs accelerate launch for its processes. srun does not inherit --cpus-per-task. When
# one node ends, the others have 120 s to end too.
code=75
if [[ -z $warned ]]; then
    srun --export=ALL --cpus-per-task="$SLURM_CPUS_PER_TASK" \
        --kill-on-bad-exit=0 --wait=120@@{step} \
        @@{inside}"$python" -m slurm.node "$run" "$submitted/config.yaml" \
        --accelerate-config "$submitted/code/configs/accelerate/"@@{accelerate_config} \
        --head "$head" --port "$port" --processes @@{processes}@@{cpu} &
    step=$!
    [[ -z $warned ]] || kill -USR1 "$step" # it came just before
    again=yes
    while [[ $again ]]; do # a signal ends the waiting, not the step
        again="" code=0
        wait "$step" || code=$?
    done
fi

# What becomes of the job: `requeue`, `requeue NODES` (without those), `end`, or `end all` (the tasks
# of an array that are to come too). It is requeued after a signal and a failure, so often at most;
# not when it was cancelled, nor after a mistake.
patiently() { # slurmctld may be away for a while
    for _ in {1..20}; do
        scontrol "$@" && return
        sleep 15
    done
    return 1
}
job=$SLURM_JOB_ID
if [[ ${SLURM_ARRAY_JOB_ID:-} ]]; then
    job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID # the last task has the id of the whole array
fi
shown=$(patiently show job --oneliner "$job" || true)
state=$(grep -o 'JobState=[A-Z]*' <<< "$shown" || true)
without=$(grep -o 'ExcNodeList=[^ ]*' <<< "$shown" || true)
verdict=$(@@{alone}"$python" -m slurm.after "$run" --job "$SLURM_JOB_ID" --code "$code" \
    --state "${state#JobState=}" --without "${without#ExcNodeList=}" --restarts "$restarts" \
    --nodes "$nodes" --warned "$warned"@@{limits}) || verdict=end
trap "" TERM # requeuing ends this script
case $verdict in
    "requeue "*)
        patiently requeue "$job"
        patiently update JobId="$job" ExcNodeList="${verdict#requeue }"
        ;;
    requeue) patiently requeue "$job" ;;
    "end all") scancel --state=PENDING "$SLURM_ARRAY_JOB_ID" ;;
esac
exit "$code"
