def edges(n):
    total = 0
    while total < n:
        if total % 2:
            continue
        try:
            total += 1
            continue
        finally:
            total += 1
    for k in range(n):
        total += k
    else:
        total += 1
    return total
