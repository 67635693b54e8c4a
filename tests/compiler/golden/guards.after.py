def guards(subject):
    _case1 = subject
    match _case1:
        case int():
            _case2 = 1
        case _:
            _case2 = 0
    if _case2 == 1:
        if not (yield 'first'):
            _case2 = 0
    if _case2 == 0:
        match _case1:
            case str() as text:
                _case2 = 2
            case _:
                _case2 = 0
        if _case2 == 0:
            match _case1:
                case _:
                    _case2 = 3
    _case1 = None
    if _case2 == 1:
        yield 1
    elif _case2 == 2:
        yield text
    elif _case2 == 3:
        yield 'other'
