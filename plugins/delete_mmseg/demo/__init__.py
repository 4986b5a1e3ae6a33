"""Street scenes that `delete-tasks segmentation demo` draws, and a small network trained on them."""
