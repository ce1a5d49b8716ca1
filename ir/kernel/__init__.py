"""The kernel form: scalar expressions over buffers, unscheduled stages, scheduled loops."""
