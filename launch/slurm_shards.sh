#!/usr/bin/env bash
# A grid as independent shares, for clusters without a network between jobs; one task of the array for each:
#
#     sbatch --array=1-8 --export=ALL,CONFIG=configs/digits.py,WORKDIR=/scratch/me/digits launch/slurm_shards.sh
#     python -m madbench table /scratch/me/digits-*       # when they are done, or before: what is missing is shown
#
# To resume a share: submit its number again (--array=3). The array must begin at 1 and keep its size: with another
# size the shares would be others, and their workdirs refuse it.
#SBATCH --job-name=madbench-shard
#SBATCH --gpus=1
#SBATCH --cpus-per-task=4
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@120
set -euo pipefail

SHARES="${SHARES:-$SLURM_ARRAY_TASK_MAX}"
exec srun python -m madbench run --config="$CONFIG" --workdir="$WORKDIR-$SLURM_ARRAY_TASK_ID" \
  --shard="$SLURM_ARRAY_TASK_ID/$SHARES"
