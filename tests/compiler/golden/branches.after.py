def branches(items):
    _done1 = False
    while True:
        if not (yield 'more?'):
            _done1 = True
            break
        items.append(1)
    if _done1:
        items.append(2)
    if __debug__:
        if not (yield 'sure?'):
            raise AssertionError('not sure')
    _case2 = (yield 'which?')
    match _case2:
        case [x, *rest] if rest:
            _case1 = 1
        case {'k': value}:
            _case1 = 2
        case _:
            _case1 = 0
    _case2 = None
    if _case1 == 1:
        yield x
    elif _case1 == 2:
        yield value
