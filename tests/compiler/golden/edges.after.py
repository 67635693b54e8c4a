def edges(n):
    total = 0
    while total < n:
        if total % 2:
            if _due:
                yield from back_edge()
            continue
        total += 1
        if _due:
            yield from back_edge()
    for k in range(n):
        total += k
        if _due:
            yield from back_edge()
    return total
