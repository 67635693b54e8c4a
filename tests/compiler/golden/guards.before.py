def guards(subject):
    match subject:
        case int() if (yield "first"):
            yield 1
        case str() as text:
            yield text
        case _:
            yield "other"
