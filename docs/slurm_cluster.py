"""Workers for WhisperQ through SLURM: run this on a login node, and leave it running.

    pip install dask-jobqueue==0.9.0
    python -m whisperq_core certificate keys
    python docs/slurm_cluster.py
    python -m whisperq_core run … --scheduler cluster.json --tls keys

Each job of SLURM's is one worker with a device of its own, a set of cores here. The project, its
virtual environment, `keys` and the results lie on a file system that all nodes share. For a GPU a
worker, add "--gres=gpu:1" to the directives, and `--device cuda` to the last command.
"""

import time
from pathlib import Path

from dask_jobqueue import SLURMCluster

from whisperq_core.serve import cluster, cluster_certificate

WORKERS, CORES_A_WORKER = 4, 8

if __name__ == "__main__":
    made = SLURMCluster(
        cores=1,  # tasks at a time: one
        processes=1,
        job_cpu=CORES_A_WORKER,
        memory="16GB",
        walltime="08:00:00",
        job_extra_directives=["--exclusive"],  # nobody else's work beside what is timed
        worker_extra_args=["--resources", f"{cluster.DEVICE}=1", "--no-dashboard"],
        protocol="tls://",
        security=cluster_certificate.tls_security(Path("keys").absolute()),
        shared_temp_directory=Path("keys").absolute(),
        scheduler_options={"scheduler_file": "cluster.json", "dashboard": False},
    )
    made.scale(jobs=WORKERS)
    print(f"Asked SLURM for {WORKERS} workers. cluster.json is for --scheduler. Ctrl-C ends all.")
    try:
        while True:
            time.sleep(60)
    except KeyboardInterrupt:
        made.close()
