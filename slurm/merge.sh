#!/bin/bash
# Makes one dataset of the parts that pack.sh has packed; written by `segue submit-pack`, which lets
# it begin when all parts are there.

# The array's name: no other array packs into the folder meanwhile.
@@{name}
#SBATCH --dependency=singleton
# It leaves the queue when a part has failed.
#SBATCH --kill-on-invalid-dep=yes
@@{chdir}
@@{output}
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --nodes=1
#SBATCH --ntasks=1
# It computes on one; the memory of a task comes with as many cores.
@@{cpus}
@@{time}
@@{asked}
set -eo pipefail
@@{setup}set -u

# The copy of the code that was made at the submission.
submitted=@@{submitted}
export PYTHONPATH="$submitted/code${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONSAFEPATH=1  # and not the code that lies in the working folder
@@{python}

exec srun --export=ALL --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK"@@{step} \
    @@{inside}"$python" -m shards merge @@{out}
