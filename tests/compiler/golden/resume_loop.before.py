def resume_loop(n):
    total = 0
    for i in range(n):
        total += i
        got = yield total
        print(got)
    return total
