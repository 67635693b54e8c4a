def loops(rows):
    _it1 = loop_iter(rows)
    for row in _it1:
        _it2 = loop_iter(row)
        for cell in _it2:
            if (yield cell) is None:
                break
        else:
            _it2 = None
            yield 'end of row'
        _it2 = None
    _it1 = None
    for a, b.c in pairs():
        print(a)
    _it3 = loop_iter(rows)
    for _item1 in _it3:
        target[(yield 'index')] = _item1
        continue
    _it3 = None
