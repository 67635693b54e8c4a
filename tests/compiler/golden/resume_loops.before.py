def resume_loops(rows, log):
    log("start")
    for row in rows:
        for cell in row:
            if not (yield cell):
                break
        else:
            continue
        log(row)
    while log("more"):
        yield row
