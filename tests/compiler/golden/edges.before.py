def edges(n):
    total = 0
    while total < n:
        if total % 2:
            continue
        total += 1
    for k in range(n):
        total += k
    return total
