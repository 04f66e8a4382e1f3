#!/usr/bin/env bash
# One job on several nodes of a SLURM cluster, one process for each GPU:
#
#     sbatch --export=ALL,CONFIG=configs/digits.py,WORKDIR=/scratch/me/digits launch/slurm.sh
#
# Data, --cache and, where data are streamed (--dry_run says so), WORKDIR have to be seen by all nodes; else the first
# node alone sees WORKDIR. JAX finds the other processes by SLURM's own variables and gives each process the GPU of its
# SLURM_LOCALID.
#
# To resume: submit it again, with as many nodes as there are. It goes on from the newest checkpoint. A time limit, a
# preemption or a lost node requeues it by itself: SLURM warns two minutes ahead (--signal), every process saves and ends
# with 143; where a node is lost the others end with 75.
#SBATCH --job-name=madbench
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=4
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

srun --kill-on-bad-exit=0 python -m madbench run --distributed --config="$CONFIG" --workdir="$WORKDIR"
code=$?
if [ "$code" = 143 ] || [ "$code" = 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
