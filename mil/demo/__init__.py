"""Demo data: synthetic slides that look stained, with a known tumour in half of them."""
