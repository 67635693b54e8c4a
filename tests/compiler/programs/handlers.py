"""Programs of `try`: handlers, `finally`, groups, and what an exception remembers."""

import sys


def exceptions(log):
    for kind in ("none", "value", "key", "other"):
        try:
            log("try", (yield kind))
            if kind == "value":
                raise ValueError(kind)
            if kind == "key":
                raise KeyError(kind)
            if kind == "other":
                raise OSError(kind)
        except ValueError as e:
            log("value", e is sys.exception(), (yield "in value"))
            log(e is sys.exception(), e.__context__)
        except (KeyError, IndexError):
            log("key", sys.exception(), (yield "in key"))
            log(repr(sys.exception()))
            try:
                raise TypeError("inner")
            except TypeError as inner:
                yield "inner"
                log(repr(inner.__context__))
            log(repr(sys.exception()), (yield "after inner"))
        except:
            log("bare", repr(sys.exception()), (yield "bare"))
            if kind == "other":
                log("again")
                try:
                    raise
                except OSError as again:
                    log(repr(again.__context__), (yield "again"))
        else:
            log("else", (yield "else"))
            yield "else 2"
        log(sys.exception())


def unbound_after_handler(log):
    e = 1
    try:
        raise ValueError(1)
    except ValueError as e:
        yield 1
    try:
        log(e)
    except NameError as error:
        log(type(error).__name__, (yield 2))
    try:
        raise ValueError(2)
    except ValueError as e:
        yield 3
        del e
    yield 4
    try:
        raise KeyError(3)
    except KeyError as e:
        e = 5
        yield e
    return "e" in locals()


def outcomes(log):
    for kind in ("exc", "brk", "cnt", "norm", "ret"):
        for i in range(3):
            try:
                try:
                    log("body", kind, i, (yield kind, i))
                    if kind == "exc":
                        raise ValueError(i)
                    if kind == "ret" and i == 1:
                        return log("value") or ("R", i)
                    if kind == "brk" and i == 1:
                        break
                    if kind == "cnt":
                        continue
                    log("end")
                except ValueError as e:
                    log("h", sys.exception() is e, (yield "h"))
                    if i == 0:
                        continue
                    if i == 1:
                        with Manager(log, "w", RuntimeError) as w:
                            yield "w", w.name
                            raise RuntimeError("suppressed")
                        log("after with", sys.exception() is e)
                    raise
                finally:
                    log("f", repr(sys.exception()), (yield "f"))
                    log("f2", repr(sys.exception()))
            except ValueError as e2:
                log("outer", repr(e2.__context__), (yield "o"))
                try:
                    yield "o2"
                finally:
                    log("of", (yield "of"))
                try:
                    raise OSError("x") from e2
                except OSError as e3:
                    log(repr(e3.__context__), e3.__cause__ is e2)
        else:
            log("else", (yield "else"))


def nested_finally(log):
    for n in range(5):
        try:
            try:
                yield n
                if n == 1:
                    continue
                if n == 2:
                    raise KeyError(n)
                if n == 4:
                    return "returned"
            finally:
                log("inner", repr(sys.exception()), (yield "inner"))
                if n == 3:
                    break
        except KeyError:
            yield "caught"
        finally:
            log("outer", repr(sys.exception()))
            yield "outer"
            try:
                yield "deep"
            finally:
                log((yield "deepest"))
    return "end"


def finally_overrides(log):
    def one():
        try:
            yield 1
            raise ValueError
        finally:
            yield 2
            return "overridden"

    log((yield from one()))
    while True:
        try:
            try:
                return (yield 3)
            finally:
                yield 4
                raise KeyError("replaces")
        except KeyError as e:
            log(repr(e.__context__), (yield 5))
            break
    for x in range(2):
        try:
            return 7
        finally:
            yield x
            continue
    return "end"


def exception_context(log):
    try:
        try:
            raise ValueError("a")
        except ValueError:
            yield 1
            try:
                raise KeyError("b")
            finally:
                yield 2
                log(repr(sys.exception()), repr(sys.exception().__context__))
    except KeyError as e:
        e.add_note("noted")
        yield 3
        log(repr(e.__context__), e.__notes__, e.__suppress_context__)
        try:
            raise IndexError("c") from None
        except IndexError as i:
            yield 4
            log(repr(i.__context__), i.__suppress_context__)
            raise


def raises(log):
    try:
        raise (yield 1) or ValueError("made") from (yield 2) or KeyError("cause")
    except (ValueError, TypeError) as e:
        log(repr(e), repr(e.__cause__))
    try:
        assert (yield 3) == 99, (yield 4)
    except AssertionError as e:
        log(repr(e))
    assert (yield 5) or True


def returns_in_try(log):
    try:
        return (yield 1)
    except ValueError:
        return (yield 2)
    finally:
        log("finally")


def exception_groups_untouched(log):
    yield 1
    try:
        raise ExceptionGroup("g", [ValueError(1), KeyError(2)])
    except* ValueError as e:
        log(repr(e))
    except* KeyError as e:
        log(repr(e))
    yield 2


def exception_groups(log):
    for n in range(3):
        try:
            yield "body"
            raise ExceptionGroup("g", [ValueError(1), TypeError(2), KeyError(3), OSError(4)][: n + 2])
        except* ValueError as e:
            log(repr(e), repr(sys.exception()), (yield 1))
            if n == 1:
                raise IndexError("in value")
        except* (TypeError, OSError) as e:
            log(repr(e), (yield 2))
            for x in range(2):
                yield x
        except* KeyError:
            log("key", repr(sys.exception()))
            if n == 2:
                raise
        else:
            yield "else"
        finally:
            log("finally", (yield "f"))


def exception_groups_caught(log):
    try:
        yield from exception_groups(log)
    except ExceptionGroup as e:
        log(repr(e), repr(e.exceptions[0].__context__), (yield "outer"))
    try:
        raise ValueError("naked")
    except* ValueError as e:
        log(repr(e), (yield "naked"))
    try:
        yield "no error"
    except* ValueError:
        yield "never"
    else:
        log((yield "else"))


def clauses_that_raise_again(log):
    try:
        raise ExceptionGroup("g", [ValueError(1), KeyError(2), TypeError(3)])
    except* ValueError:
        raise
    except* KeyError:
        log((yield 1), repr(sys.exception()))
        raise
    finally:
        yield repr(sys.exception())


def clause_that_raises_again_and_one_that_raises_anew(log):
    try:
        raise ExceptionGroup("g", [ValueError(1), KeyError(2)])
    except* ValueError:
        yield 1
        raise
    except* KeyError:
        yield 2
        raise RuntimeError(3) from TypeError(4)


def clause_that_raises_a_group_of_its_own(log):
    try:
        raise ExceptionGroup("g", [ValueError(1), KeyError(2)])
    except* ValueError:
        try:
            raise ExceptionGroup("g", [ValueError(1), KeyError(2)])
        except* ValueError:
            yield 1
        raise
    except* KeyError:
        log((yield 2))


def clauses_that_suspend(log):
    for raised in (KeyError("k"), ValueError("v"), OSError("o")):
        try:
            try:
                log("body", (yield "body"))
                raise raised
            except log("first", (yield "first type")) and (KeyError, AttributeError) or KeyError:
                log("key", sys.exception())
                yield "key"
            except ((yield "second type"), ValueError)[1] as error:
                log("value", error, error.__context__, sys.exception())
                yield error
                raise
            except (yield "not a type"):
                log("never")
            finally:
                log("finally", (yield "finally"), "error" in locals())
        except Exception as outer:
            log("outer", outer, outer.__context__, (yield "outer"))
