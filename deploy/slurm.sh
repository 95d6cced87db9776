#!/bin/bash
#SBATCH --nodes=4 --ntasks-per-node=1 --gpus-per-node=8 --cpus-per-task=96
#SBATCH --signal=TERM@120 --requeue --open-mode=append
# sbatch deploy/slurm.sh, from a checkout that all nodes see, with checkpoints/ and data/ in it and .venv active.
# A process a node drives all of its GPUs. srun does not take the processors over from sbatch (since Slurm 22.05).
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" \
  python train.py --distributed --config configs/vdiffsr_x4.py --workdir runs/vdiffsr_x4 --set mesh.data=0 \
  --metrics_port 9090 --stall_minutes 20
code=$?
# 75: told to stop and saved; 1 or above 128: a node was lost. 0 is done, 2 a wrong setting.
if [ $code -ne 0 ] && [ $code -ne 2 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
