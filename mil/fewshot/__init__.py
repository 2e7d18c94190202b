"""Few-shot curves: AUROC of linear probes that are fitted to few slides of each class."""
