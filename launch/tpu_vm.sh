#!/usr/bin/env bash
# One job on all workers of a Cloud TPU slice, one process on each; JAX finds the others by itself:
#
#     TPU=my-v5e-64 ZONE=us-west4-a CONFIG=configs/digits.py WORKDIR=/mnt/results/digits launch/tpu_vm.sh
#
# Before: madbench and "jax[tpu]" installed on every worker (the same command with --command="pip install …"). WORKDIR is
# written by worker 0 alone, unless data are streamed (--dry_run says so): then all workers have to see it.
#
# To resume: run it again. After a preemption create the slice anew, of any size, with the disk that holds WORKDIR
# attached; the job goes on from its newest checkpoint.
set -euo pipefail

exec gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="
  cd madbench && python3 -m madbench run --distributed --config='$CONFIG' --workdir='$WORKDIR'"
