def except_star():
    try:
        raise ExceptionGroup("g", [ValueError(), KeyError()])
    except* ValueError as values:
        yield values
    except* KeyError:
        yield "keys"
