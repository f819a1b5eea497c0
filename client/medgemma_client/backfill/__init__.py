"""Many questions at once: a manifest's rows, read and checked, each of which becomes a job."""
