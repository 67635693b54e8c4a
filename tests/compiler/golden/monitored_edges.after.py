def edges(n):
    total = 0
    while True:
        try:
            while True:
                if not total < n:
                    break
                if total % 2:
                    continue
                try:
                    total += 1
                    if _due:
                        yield from back_edge()
                    continue
                finally:
                    total += 1
            break
        except BackEdge:
            pass
        yield from back_edge()
    _done1 = False
    _it1 = loop_iter(range(n))
    while True:
        try:
            for k in _it1:
                total += k
            else:
                _done1 = True
            break
        except BackEdge:
            pass
        yield from back_edge()
    _it1 = None
    if _done1:
        total += 1
    return total
