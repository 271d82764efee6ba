-- Give back the turn that `take_sweep` took. Called by disk.sweep.
SELECT pg_advisory_unlock(hashtext('topics sweep'))
