"""What others can see of a running worker: metrics, traces and health. Start in `observer`."""
