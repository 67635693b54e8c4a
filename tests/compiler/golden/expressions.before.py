def expressions(f, o, i, a, b, c):
    x = f(a, (yield 1), *b, k=(yield 2), **c)
    o[i:(yield 3)] += (yield 4)
    y = a < (yield 5) < b
    z = a and (yield 6) or b
    w = (yield 7) if (yield 8) else (n := (yield 9))
    t = f"{a!r:>{(yield 10)}}{b}"
    d = {a: (yield 11), **b, c: 1}
    o.a, (o.b, *o[(yield 12)]) = yield 13
    del o[(yield 14)]
    raise f((yield 15)) from (yield 16)
