"""What a user can set: flags by theme, parsed once at the edge into one frozen `JobConfig`."""
