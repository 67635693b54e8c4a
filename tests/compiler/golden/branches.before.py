def branches(items):
    while (yield "more?"):
        items.append(1)
    else:
        items.append(2)
    assert (yield "sure?"), "not sure"
    match (yield "which?"):
        case [x, *rest] if rest:
            yield x
        case {"k": value}:
            yield value
