"""Join: bags of one slide by several encoders or at several magnifications, side by side."""
