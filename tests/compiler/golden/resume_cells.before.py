def resume_cells(count):
    add = lambda more: count + more
    while count := (yield add(1)):
        pass
