"""Jobs on this machine: the plan's stages as process groups, their state as files. What `kubedistill run` uses."""
