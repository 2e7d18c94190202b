"""Jobs of a run on machines of a cloud, for Snakemake's executor `cluster-generic`."""
