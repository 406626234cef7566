// Cases that run under mpirun.
