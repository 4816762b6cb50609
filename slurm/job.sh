#!/bin/bash
# A training job, written by `segue submit`. `sbatch` on this file submits it again, and whenever
# it starts again it resumes from the run's newest checkpoint.

# The run's name. Of jobs with one name only one runs at a time: two never train the same run.
@@{name}
#SBATCH --dependency=singleton
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
@@{asked}

set -euo pipefail

# The accelerate and Python that submitted the job.
export PATH=@@{programs}:"$PATH"
# Processes on each node.
processes=@@{processes}
@@{cpu}
# Where the processes meet: the first node, at a port of this job's own.
nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${SEGUE_HEAD_ADDRESS:-${nodes%%$'\n'*}}
port=${SEGUE_PORT:-$((10000 + SLURM_JOB_ID % 20000))}
echo "job $SLURM_JOB_ID: $SLURM_NNODES nodes, $processes processes each, meet at $head:$port"

# What is the same on every node. `static` gives node n the n-th ranks; with c10d any node whose
# name looks like the first one's may open the port before it.
launch=(
    --config_file @@{accelerate_config}
    --num_machines "$SLURM_NNODES"
    --num_processes "$((SLURM_NNODES * processes))"
    --main_process_ip "$head"
    --main_process_port "$port"
    --rdzv_backend static
    --deepspeed_multinode_launcher standard
)
run=(
    -m pretrain
    @@{run}
)

# SLURM_NODEID differs from node to node: the single quotes leave it to each node's own shell.
# srun does not inherit --cpus-per-task; when one node fails, the others end too.
# shellcheck disable=SC2016
srun --export=ALL --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 \
    bash -c 'exec accelerate launch --machine_rank "$SLURM_NODEID" "$@"' \
    node "${launch[@]}" "${run[@]}"
