#!/bin/bash
# Packs a corpus, a part in each task of an array; written by `segue submit-pack`. What is finished
# stays, so each part goes on where it was. In this folder, this submits both jobs again:
#     sbatch --dependency="afterok:$(sbatch --parsable pack.sh),singleton" merge.sh

# Arrays and merges of one name wait for each other: two never pack into the same folder.
@@{name}
#SBATCH --dependency=singleton
@@{array}
# Where `segue submit-pack` was given: relative paths in config.yaml start here.
@@{chdir}
# What a task prints; after a requeue it goes on in the same file.
@@{output}
#SBATCH --open-mode=append
# SLURM may start a task again after a preemption or the loss of a node.
#SBATCH --requeue
#SBATCH --nodes=1
#SBATCH --ntasks=1
# Cores of a task: a worker process for each.
@@{cpus}
@@{time}
# This script gets SIGUSR1 so many seconds before the time limit.
@@{signal}
@@{asked}
set -eo pipefail
# SIGUSR1 (the time limit is near) and SIGTERM (preemption) end the packing at once.
step="" warned="" again=""
trap 'warned=yes again=yes; [[ -z $step ]] || kill -USR1 "$step" 2> /dev/null || true' USR1 TERM
@@{setup}set -u

# The copies of the code and the settled config that were made at the submission.
submitted=@@{submitted}
export PYTHONPATH="$submitted/code${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONSAFEPATH=1  # and not the code that lies in the working folder
@@{python}
max_requeues=@@{max_requeues}

part=$SLURM_ARRAY_TASK_ID/@@{tasks}
restarts=${SLURM_RESTART_COUNT:-0}
echo "part $part, start $((restarts + 1)) on $SLURMD_NODENAME"
pack=(
    -m shards pack @@{source} @@{out}
    --from @@{kind}
    --config "$submitted/config.yaml"
    --part "$part"
    --workers "$SLURM_CPUS_PER_TASK"
)

code=$((128 + 10))
if [[ -z $warned ]]; then
    # srun does not inherit --cpus-per-task.
    srun --export=ALL --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK"@@{step} \
        @@{inside}"$python" "${pack[@]}" &
    step=$!
    [[ -z $warned ]] || kill -USR1 "$step" # it came just before
    again=yes
    while [[ $again ]]; do # a signal ends the waiting, not the step
        again="" code=0
        wait "$step" || code=$?
    done
fi

# Ended by such a signal (128 and its number), the task goes back into the queue, so often at most;
# not when it was cancelled. The array's own id would requeue all of its tasks.
task=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
if ((code == 128 + 10 || code == 128 + 15)); then
    shown=$(scontrol show job --oneliner "$task" || true)
    if [[ $shown != *" JobState=RUNNING "* ]]; then
        echo "part $part: not requeued: SLURM ends this task" >&2
    elif ((restarts >= max_requeues)); then
        echo "part $part: not requeued: that was done $restarts times," \
            "--max-requeues $max_requeues" >&2
    else
        echo "part $part: interrupted and requeued" >&2
        trap "" TERM # requeuing ends this script
        scontrol requeue "$task"
    fi
fi
exit "$code"
