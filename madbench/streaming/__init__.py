"""Jobs whose training sets exceed a device: batches are read ahead, synthetic samples lie on disk."""
