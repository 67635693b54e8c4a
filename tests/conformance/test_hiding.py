"""What a program sees of itself in a conformance run are durable functions: no driver, nothing of the runner, and one
code object for each.

Each program runs in an interpreter of its own, as drivers are hidden in all of one."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

BEFORE = """
import asyncio, inspect, sys, types
from ray_durable.testing.hiding import hide
from ray_durable.testing.renewal import renewing

def names(frame):
    found = []
    while frame is not None:
        found.append(frame.f_code.co_name)
        frame = frame.f_back
    return found

hide()
"""


def run(tmp_path, program):
    path = tmp_path / "program.py"
    path.write_text(BEFORE + textwrap.dedent(program))
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_frames_of_drivers_are_not_on_the_stack(tmp_path):
    run(
        tmp_path,
        """
        @renewing
        def inner():
            for _ in range(2):
                yield names(sys._getframe()), sys._getframe(2).f_code.co_name, inspect.stack()[1].function

        @renewing
        def outer():
            yield from inner()

        def caller(steps):
            return next(steps)

        steps = outer()
        for _ in range(2):
            stack, two_up, one_up = caller(steps)
            assert stack == ["inner", "outer", "caller", "<module>"], stack
            assert (one_up, two_up) == ("outer", "caller")
        try:
            sys._getframe(1)
        except ValueError as error:
            assert "not deep enough" in str(error)
        else:
            raise AssertionError
        """,
    )


def test_an_object_shows_the_frame_and_delegate_of_the_durable_one(tmp_path):
    run(
        tmp_path,
        """
        @renewing
        def inner(n):
            here = n
            yield n
            yield n

        @renewing
        def outer(made):
            yield from made

        made = inner(5)
        steps = outer(made)
        assert steps.gi_yieldfrom is None and steps.gi_frame.f_locals["made"] is made
        for _ in range(2):
            assert next(steps) == 5
            assert steps.gi_yieldfrom is made
            assert made.gi_frame.f_locals["here"] == 5
            assert made.gi_frame.f_lineno - made.gi_code.co_firstlineno in (3, 4)
        steps.close()
        assert steps.gi_frame is None and made.gi_frame is None
        """,
    )


def test_a_frame_shows_whose_code_is_known_by_its_identity(tmp_path):
    run(
        tmp_path,
        """
        import weakref

        @renewing
        def known():
            for _ in range(2):
                yield is_known(sys._getframe())

        def is_known(frame):
            while frame is not None:
                if frame.f_code is reference():
                    return True
                frame = frame.f_back

        reference = weakref.ref(known.__code__)
        assert list(known()) == [True, True]
        """,
    )


def test_who_traces_is_told_of_the_durable_functions_only(tmp_path):
    run(
        tmp_path,
        """
        @renewing
        def counting():
            for i in range(2):
                yield i

        def caller():
            return list(counting())

        for setter, getter in ((sys.settrace, sys.gettrace), (sys.setprofile, sys.getprofile)):
            told = []

            def tell(frame, event, arg):
                if event in ("call", "return"):
                    told.append((event, frame.f_code.co_name, frame.f_back.f_code.co_name))
                    assert sys._getframe(1) is frame
                return tell

            setter(tell)
            assert getter() is tell
            caller()
            setter(None)
            assert getter() is None
            steps = [("call", "counting", "caller"), ("return", "counting", "caller")] * 3
            assert told[1:-1] == steps, told
        """,
    )


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there is no sys.monitoring")
def test_monitors_are_told_of_the_durable_functions_alone(tmp_path):
    run(
        tmp_path,
        """
        def program():
            @renewing
            def inner():
                yield 1
                yield 2

            @renewing
            def outer():
                yield from inner()

            return list(outer())

        seen = []
        events = sys.monitoring.events
        sys.monitoring.use_tool_id(2, "a test")
        note = lambda code, line: seen.append((code.co_name, line - program.__code__.co_firstlineno))
        assert sys.monitoring.register_callback(2, events.LINE, note) is None
        sys.monitoring.set_events(2, events.LINE)
        program()
        sys.monitoring.set_events(2, 0)
        assert sys.monitoring.register_callback(2, events.LINE, None) is note
        lines = [(name, line) for name, line in seen if name != "<module>"]
        definitions = [("program", line) for line in (1, 2, 1, 2, 6, 7, 6, 7)]
        steps = [("outer", 8), ("inner", 3), ("inner", 4)]
        assert lines == [*definitions, ("program", 10), *steps], lines
        assert {name for name, _ in seen} == {"program", "outer", "inner", "<module>"}, seen
        """,
    )


def test_all_bodies_of_a_function_show_its_own_code(tmp_path):
    run(
        tmp_path,
        """
        import dis, traceback

        @renewing
        def counting(n):
            for i in range(n):
                yield sys._getframe().f_code
            len(n) + undefined_name

        steps = counting(2)
        assert steps.gi_code is counting.__code__ is steps.gi_frame.f_code
        for code in (next(steps), next(steps)):
            assert code is counting.__code__ is steps.gi_frame.f_code
        assert {"range", "len", "undefined_name"} <= {*counting.__code__.co_names}
        lines = {line - counting.__code__.co_firstlineno for _, line in dis.findlinestarts(counting.__code__) if line}
        assert {2, 3, 4} <= lines, lines
        try:
            next(steps)
        except TypeError as error:
            entry = error.__traceback__.tb_next
            assert entry.tb_frame.f_code is counting.__code__
            assert "^^^^^^" in "".join(traceback.format_exception(error)), traceback.format_exception(error)
            assert traceback.extract_tb(entry)[0].colno == 4
            operations = {each.offset: each for each in dis.get_instructions(entry.tb_frame.f_code)}
            assert operations[entry.tb_lasti].opname in ("PRECALL", "CALL", "BINARY_OP"), operations[entry.tb_lasti]
        else:
            raise AssertionError
        """,
    )


def test_where_a_frame_is_in_the_code_that_shows_is_in_the_line_that_it_is_at(tmp_path):
    run(
        tmp_path,
        """
        @renewing
        def counting(n):
            for i in range(n):
                yield i

        seen = []

        def tracer(frame, event, arg):
            if frame.f_code is counting.__code__ and event == "line":
                lines = [line for start, end, line in frame.f_code.co_lines() if start <= frame.f_lasti < end]
                seen.append((lines, frame.f_lineno))
            return tracer

        sys.settrace(tracer)
        assert list(counting(3)) == [0, 1, 2]
        sys.settrace(None)
        assert len(seen) == 7 and all(lines == [line] for lines, line in seen), seen
        """,
    )


def test_a_function_may_be_made_anew_from_the_code_that_shows(tmp_path):
    run(
        tmp_path,
        """
        import dis

        def counts(code):
            anew = types.FunctionType(code, globals())
            return list(anew(3, step=2)) == [0, 2]

        @renewing
        def counting(n, *, step=1):
            "Counts."
            for i in range(0, n, step):
                yield i

        code = counting.__code__
        names = [operation.argval for operation in dis.get_instructions(code) if operation.opname == "LOAD_GLOBAL"]
        assert names == ["range"] == [*code.co_names], names
        assert counts(code.replace(co_consts=code.co_consts))
        parts = [getattr(code, "co_" + name) for name in (
            "argcount", "posonlyargcount", "kwonlyargcount", "nlocals", "stacksize", "flags", "code", "consts", "names",
            "varnames", "filename", "name", "qualname", "firstlineno", "linetable", "exceptiontable", "freevars",
            "cellvars")]
        for made in (code.replace(co_name="anew"), types.CodeType(*parts)):
            anew = types.FunctionType(made, globals(), None, None, counting.__closure__)
            assert list(anew(6, step=2)) == [0, 2, 4]
        """,
    )


def test_a_debugger_jumps_in_a_function_that_it_knows_by_its_code(tmp_path):
    run(
        tmp_path,
        """
        @renewing
        async def stepping(seen):
            await asyncio.sleep(0)
            seen.append(1)
            seen.append(2)
            seen.append(3)

        def tracer(frame, event, arg):
            line = frame.f_lineno - stepping.__code__.co_firstlineno
            if frame.f_code is stepping.__code__ and event == "line" and line == 4:
                frame.f_lineno += 1
                sys.settrace(None)
            return tracer

        seen = []
        sys.settrace(tracer)
        asyncio.run(stepping(seen))
        assert seen == [1, 3], seen
        """,
    )


def test_frames_show_the_users_variables(tmp_path):
    run(
        tmp_path,
        """
        @renewing
        def counting(n):
            for i in range(n):
                for j in [i]:
                    yield sys._getframe().f_locals
            unset = shared = 1
            del unset
            yield [shared for _ in range(2)], lambda: shared

        steps = counting(2)
        assert inspect.isgetsetdescriptor(types.FrameType.f_locals)
        assert inspect.getgeneratorlocals(steps) == {"n": 2}
        for i in range(2):
            assert {*next(steps)} == {"n", "i", "j"}
            assert steps.gi_frame.f_locals == {"n": 2, "i": i, "j": i}
        next(steps)
        assert steps.gi_frame.f_locals == {"n": 2, "i": 1, "j": 1, "shared": 1}
        steps.close()
        """,
    )


def test_a_debugger_sets_variables(tmp_path):
    run(
        tmp_path,
        """
        @renewing
        def counting(n):
            yield 0
            yield n
            yield n

        def tracer(frame, event, arg):
            if frame.f_code is counting.__code__ and event == "line":
                here = frame.f_locals
                assert here["n"] == frame.f_lineno - counting.__code__.co_firstlineno - 2 + 5, (here, frame.f_lineno)
                here["n"] += 1
                exec("unused = n", {}, here)
                assert here["unused"] == here["n"]
            return tracer

        sys.settrace(tracer)
        found = list(counting(5))
        sys.settrace(None)
        assert found == [0, 7, 8], found
        """,
    )


def test_the_place_of_a_call_is_found_in_the_bytecode_that_shows(tmp_path):
    run(
        tmp_path,
        """
        import dis

        def calling():
            frame = sys._getframe(1)
            before = [each for each in dis.get_instructions(frame.f_code) if each.offset <= frame.f_lasti]
            return before[-1].opname, before[-1].positions.lineno - frame.f_code.co_firstlineno, \
                before[-1].positions.col_offset

        @renewing
        def steps():
            yield calling()
            yield calling()
            yield [calling(),
                   calling()]

        found = list(steps())
        assert found == [("CALL", 2, 10), ("CALL", 3, 10), [("CALL", 4, 11), ("CALL", 5, 11)]], found
        """,
    )
