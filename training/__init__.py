"""What both trainers share: the loop, run state, model file, schedule, distributed, trackers, report."""
