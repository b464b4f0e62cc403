"""The hooks around tasks: their order, their arguments and their effects."""

from __future__ import annotations

import functools

import attrs
import pytest

from arbprov import (
    ActionNotFoundError,
    Blueprint,
    ConfigurationError,
    InvalidPayloadError,
    ProviderApp,
    ProviderResponse,
    RateLimited,
    TaskContext,
    TaskResult,
    TaskTimeoutError,
)


class Recorder:
    """An app and a blueprint, each with an action, and a list of events."""

    def __init__(self):
        self.app = ProviderApp("test")
        self.blueprint = Blueprint("reports", prefix="reports.")
        self.app.register_blueprint(self.blueprint)
        self.seen = []
        self.app.action("work")(self._work)
        self.blueprint.action("work")(self._work)
        self.app.action("fail")(self._fail)
        self.blueprint.action("fail")(self._fail)

    def _work(self) -> str:
        self.seen.append("handler")
        return "worked"

    def _fail(self) -> None:
        raise KeyError("gone")

    def call(self, action="work", *arguments):
        return self.app.test_client().call(action, *arguments)

    def note(self, word):
        """Return a hook that notes `word` and changes nothing."""

        def hook(first=None):
            self.seen.append(word)
            return first if isinstance(first, TaskResult) else None

        return hook


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def app(recorder):
    return recorder.app


@pytest.fixture
def blueprint(recorder):
    return recorder.blueprint


@pytest.fixture
def call(recorder):
    return recorder.call


@pytest.fixture
def seen(recorder):
    return recorder.seen


# The order.


def test_before_hooks_run_in_the_order_of_registration(recorder, app):
    for word in ("first", "second", "third"):
        app.before_task(recorder.note(word))
    recorder.call()
    assert recorder.seen == ["first", "second", "third", "handler"]


@pytest.mark.parametrize("kind", ["after_task", "teardown_task"])
def test_hooks_on_the_way_out_run_in_reverse(recorder, app, kind):
    for word in ("first", "second", "third"):
        getattr(app, kind)(recorder.note(word))
    recorder.call()
    assert recorder.seen == ["handler", "third", "second", "first"]


def test_into_a_task_the_app_s_hooks_go_before_the_blueprint_s(recorder):
    recorder.blueprint.before_task(recorder.note("blueprint"))
    recorder.app.before_task(recorder.note("app"))
    recorder.call("reports.work")
    assert recorder.seen == ["app", "blueprint", "handler"]


@pytest.mark.parametrize("kind", ["after_task", "teardown_task"])
def test_out_of_a_task_the_blueprint_s_hooks_go_before_the_app_s(recorder, kind):
    getattr(recorder.app, kind)(recorder.note("app"))
    getattr(recorder.blueprint, kind)(recorder.note("blueprint"))
    recorder.call("reports.work")
    assert recorder.seen == ["handler", "blueprint", "app"]


def test_teardown_comes_last_of_all(recorder, app):
    app.teardown_task(recorder.note("teardown"))
    app.after_task(recorder.note("after"))
    app.before_task(recorder.note("before"))
    recorder.call()
    assert recorder.seen == ["before", "handler", "after", "teardown"]


@pytest.mark.parametrize("kind", ["before_task", "after_task", "teardown_task"])
def test_a_blueprint_s_hooks_leave_the_app_s_own_actions_alone(recorder, kind):
    getattr(recorder.blueprint, kind)(recorder.note("blueprint"))
    recorder.call("work")
    assert recorder.seen == ["handler"]


@pytest.mark.parametrize("kind", ["before_task", "after_task", "teardown_task"])
def test_a_hook_may_be_async(app, call, seen, kind):
    async def hook(first):
        seen.append("hook")
        return first if isinstance(first, TaskResult) else None

    getattr(app, kind)(hook)
    assert (call().data, "hook" in seen) == ("worked", True)


# Arguments.


def test_a_before_hook_gets_the_context(app, call, seen):
    @app.before_task
    def hook(ctx):
        seen.append((type(ctx), ctx.action, ctx.payload))

    call("work", {"a": 1})
    assert seen[0] == (TaskContext, "work", {"a": 1})


def test_an_after_hook_gets_the_result_and_the_context(app, call, seen):
    @app.after_task
    def hook(result, ctx):
        seen.append((result.data, ctx.action))
        return result

    call()
    assert seen[1] == ("worked", "work")


def test_a_teardown_gets_no_error_when_there_is_none(app, call, seen):
    app.teardown_task(lambda error, ctx: seen.append((error, ctx.action)))
    call()
    assert seen[1] == (None, "work")


def test_a_teardown_gets_the_handler_s_error(app, call, seen):
    app.teardown_task(lambda error: seen.append(repr(error)))
    call("fail")
    assert seen == ["KeyError('gone')"]


def test_an_errorhandler_gets_the_error_and_the_context(app, call, seen):
    app.errorhandler(KeyError)(lambda error, ctx: seen.append((repr(error), ctx.action)))
    call("fail")
    assert seen == [("KeyError('gone')", "fail")]


def test_all_hooks_and_the_handler_see_one_context(app, seen):
    @app.action
    def look(ctx: TaskContext):
        seen.append(ctx)

    app.before_task(seen.append)
    app.teardown_task(lambda error, ctx: seen.append(ctx))
    app.test_client().call("look")
    assert (len(seen), len({id(ctx) for ctx in seen})) == (3, 1)


def test_a_before_hook_may_leave_out_the_context(app, call):
    app.before_task(lambda: "answered")
    assert call().data == "answered"


def test_an_after_hook_may_leave_out_the_context(app, call):
    app.after_task(lambda result: attrs.evolve(result, message="stamped"))
    assert call().message == "stamped"


def test_a_teardown_may_leave_out_everything(app, call, seen):
    app.teardown_task(lambda: seen.append("torn down"))
    call()
    assert seen == ["handler", "torn down"]


def test_an_errorhandler_may_leave_out_everything(app, call):
    app.errorhandler(KeyError)(lambda: "handled")
    assert call("fail").data == "handled"


def test_a_hook_s_optional_argument_is_given(app, call, seen):
    app.teardown_task(lambda error=1, ctx=2: seen.append((error, ctx)))
    call()
    assert (seen[1][0], type(seen[1][1])) == (None, TaskContext)


def test_a_hook_may_be_a_bound_method(app, call, seen):
    app.teardown_task(seen.append)
    call()
    assert seen == ["handler", None]


TOO_MANY = {
    "on_startup": "()",
    "on_shutdown": "()",
    "on_connect": "()",
    "on_disconnect": "(error)",
    "on_submit_failed": "(result, error)",
    "before_task": "(ctx)",
    "after_task": "(result, ctx)",
    "teardown_task": "(error, ctx)",
}


def takes_too_much(one, two, three):
    return None


@pytest.mark.parametrize(("kind", "given"), TOO_MANY.items(), ids=TOO_MANY)
def test_a_hook_with_too_many_parameters_is_refused(app, kind, given):
    with pytest.raises(ConfigurationError) as caught:
        getattr(app, kind)(takes_too_much)
    line = takes_too_much.__code__.co_firstlineno
    assert f"takes_too_much ({__file__}:{line})" in str(caught.value)
    assert f": {kind} hooks are called with {given}; " in str(caught.value)


def test_an_errorhandler_with_too_many_parameters_is_refused(app):
    with pytest.raises(ConfigurationError, match=r"errorhandler hooks .* with \(error, ctx\)"):
        app.errorhandler(KeyError)(takes_too_much)


def test_a_hook_with_a_required_keyword_is_refused(app):
    def hook(ctx, *, tag):
        return tag

    with pytest.raises(ConfigurationError, match="before_task hooks are called with"):
        app.before_task(hook)


@pytest.mark.parametrize("hook", [5, "text", None, dict], ids=repr)
def test_an_object_that_is_not_a_hook_is_refused(app, hook):
    with pytest.raises(ConfigurationError, match="before_task"):
        app.before_task(hook)


# A before hook answers.


@pytest.mark.parametrize("answer", [{}, "", 0, False, []], ids=repr)
def test_anything_but_none_is_the_answer(app, call, answer):
    app.before_task(lambda: answer)
    assert call().data == answer


def test_an_answered_task_never_runs_its_handler(app, call, seen):
    app.before_task(lambda: "answered")
    call()
    assert seen == []


def test_an_answer_may_be_a_response(app, call):
    app.before_task(lambda: ProviderResponse("warning", "Closed today"))
    assert (call().status, call().message) == ("warning", "Closed today")


def test_an_answered_task_runs_no_further_before_hook(recorder, app):
    app.before_task(lambda: "answered")
    app.before_task(recorder.note("second"))
    recorder.call()
    assert recorder.seen == []


def test_no_blueprint_s_before_hook_runs_after_the_app_s_answer(recorder):
    recorder.blueprint.before_task(recorder.note("blueprint"))
    recorder.app.before_task(lambda: "answered")
    recorder.call("reports.work")
    assert recorder.seen == []


@pytest.mark.parametrize("kind", ["after_task", "teardown_task"])
def test_an_answered_task_runs_the_hooks_on_the_way_out(recorder, app, kind):
    app.before_task(lambda: "answered")
    getattr(app, kind)(recorder.note("out"))
    recorder.call()
    assert recorder.seen == ["out"]


# Results of after hooks.


def test_an_after_hook_s_result_is_sent(app, call):
    app.after_task(lambda result: attrs.evolve(result, data={"stamped": result.data}))
    assert call().envelope["data"]["response"] == {"stamped": "worked"}


def test_each_after_hook_gets_the_result_of_the_previous_hook(app, call):
    app.after_task(lambda result: attrs.evolve(result, data=[*result.data, "second"]))
    app.after_task(lambda result: attrs.evolve(result, data=["first"]))
    assert call().data == ["first", "second"]


def test_an_after_hook_sees_an_error_result(app, call, seen):
    @app.after_task
    def hook(result):
        seen.append((result.status.value, result.data))
        return result

    call("fail")
    assert seen == [("error", {"error": "KeyError: 'gone'", "type": "KeyError"})]


@pytest.mark.parametrize("returned", [None, {}, "text", ProviderResponse("success")], ids=repr)
def test_an_after_hook_that_does_not_return_a_result_is_an_error(app, call, returned):
    app.after_task(lambda result: returned)
    result = call()
    assert (result.status, result.data["type"]) == ("error", "TypeError")


def test_an_after_hook_that_does_not_return_a_result_is_named(app, call):
    @app.after_task
    def forgetful(result):
        return None

    assert call().message.endswith("forgetful must return a TaskResult, not NoneType")


def test_an_after_hook_s_data_must_be_json(app, call):
    app.after_task(lambda result: attrs.evolve(result, data={"a": {1}}))
    assert [one["path"] for one in call().problems] == ["a"]


def test_an_after_hook_s_data_may_need_a_form(app, call):
    app.after_task(lambda result: attrs.evolve(result, data=(1, b"x")))
    assert call().data == [1, "eA=="]


def test_an_after_hook_can_t_answer_another_task(app, call):
    app.after_task(
        lambda result: attrs.evolve(result, task=attrs.evolve(result.task, id="another"))
    )
    assert call("work").id == "test-1"


def test_an_after_hook_may_give_the_status_as_text(app, call):
    app.after_task(lambda result: attrs.evolve(result, status="warning"))
    assert call().envelope["status"] == "warning"


def test_an_after_hook_s_unknown_status_is_an_error(app, call):
    app.after_task(lambda result: attrs.evolve(result, status="great"))
    assert call().envelope["status"] == "error"


def test_an_after_hook_can_t_empty_the_message(app, call):
    app.after_task(lambda result: attrs.evolve(result, message=""))
    assert call().message != ""


# Exceptions of hooks.

RAISING = {
    "ValueError": ValueError("from a hook"),
    "SystemExit": SystemExit("from a hook"),
    "KeyboardInterrupt": KeyboardInterrupt("from a hook"),
    "GeneratorExit": GeneratorExit("from a hook"),
    "StopIteration": StopIteration("from a hook"),
}


def raising(error):
    """Return a function that raises, for use as a handler or a hook."""

    def function():
        raise error

    return function


@pytest.mark.parametrize("kind", ["before_task", "after_task", "teardown_task"])
@pytest.mark.parametrize("error", RAISING.values(), ids=RAISING)
def test_an_exception_of_a_hook_is_the_result(app, call, kind, error):
    getattr(app, kind)(raising(error))
    result = call()
    assert (result.status, result.data) == (
        "error",
        {"error": "from a hook", "type": type(error).__name__},
    )


@pytest.mark.parametrize("kind", ["before_task", "after_task", "teardown_task"])
def test_an_exception_of_an_async_hook_is_the_result(app, call, kind):
    async def hook():
        raise ValueError("from a hook")

    getattr(app, kind)(hook)
    assert call().data == {"error": "from a hook", "type": "ValueError"}


def test_no_handler_runs_after_a_before_hook_that_raises(app, call, seen):
    app.before_task(raising(ValueError()))
    call()
    assert seen == []


def test_a_before_hook_s_error_goes_to_the_errorhandler(app, call):
    app.before_task(raising(ValueError("from a hook")))
    app.errorhandler(ValueError)(lambda error: f"handled: {error}")
    assert call().data == "handled: from a hook"


def test_a_task_error_of_a_before_hook_is_its_own_kind_of_result(app, call):
    app.before_task(raising(RateLimited(5)))
    assert (call().status, call().wait_time) == ("limit", 5)


def test_the_other_after_hooks_run_after_one_that_raises(recorder, app):
    app.after_task(recorder.note("other"))
    app.after_task(raising(ValueError()))
    recorder.call()
    assert recorder.seen == ["handler", "other"]


def test_a_later_after_hook_sees_the_error_of_an_earlier_one(app, call, seen):
    @app.after_task
    def later(result):
        seen.append(result.message)
        return result

    app.after_task(raising(ValueError("from a hook")))
    call()
    assert seen == ["handler", "from a hook"]


# Teardown, always.

ENDINGS = {
    "a handler that raises": lambda app: app.action("end")(raising(ValueError())),
    "a handler that exits": lambda app: app.action("end")(raising(SystemExit())),
    "a before hook that raises": lambda app: app.before_task(raising(ValueError())),
    "a before hook that answers": lambda app: app.before_task(lambda: "answered"),
    "an after hook that raises": lambda app: app.after_task(raising(ValueError())),
    "an after hook that returns nothing": lambda app: app.after_task(lambda: None),
    "another teardown that raises": lambda app: app.teardown_task(raising(ValueError())),
    "an errorhandler that raises": lambda app: (
        app.action("end")(raising(KeyError())),
        app.errorhandler(KeyError)(raising(ValueError())),
    ),
    "a payload that does not fit": lambda app: app.action("end")(needy),
    "an action that is not there": lambda app: None,
    "a limit": lambda app: app.action("end")(app.rate_limit("1/day", key=nobody)(lambda: None)),
    "a result that JSON can't carry": lambda app: app.action("end")(lambda: {1}),
    "an error text that JSON can't carry": lambda app: app.action("end")(
        raising(ValueError("\ud800"))
    ),
    "an error that was made of nonsense": lambda app: app.action("end")(
        raising(InvalidPayloadError("the quantity is odd"))
    ),
}


def needy(city: str):
    return city


def nobody(call):
    return None


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
def test_teardown_runs_after(end):
    app, torn = ProviderApp(), []
    app.teardown_task(lambda: torn.append(1))
    end(app)
    app.test_client().call("end")
    assert torn == [1]


def test_a_teardown_gets_another_teardown_s_error(app, call, seen):
    app.teardown_task(lambda error: seen.append(repr(error)))
    app.teardown_task(raising(ValueError("from a hook")))
    call()
    assert seen == ["handler", "ValueError('from a hook')"]


def test_the_returned_value_of_a_teardown_is_ignored(app, call):
    app.teardown_task(lambda: "ignored")
    assert call().data == "worked"


# Errorhandlers.


def test_the_returned_value_of_an_errorhandler_is_the_answer(app, call):
    app.errorhandler(KeyError)(lambda error: {"missing": error.args[0]})
    assert (call("fail").status, call("fail").data) == ("success", {"missing": "gone"})


def test_an_errorhandler_may_choose_status_and_message(app, call):
    app.errorhandler(KeyError)(lambda: ProviderResponse("warning", "Not there"))
    assert (call("fail").status, call("fail").message) == ("warning", "Not there")


def test_an_errorhandler_that_returns_none_answers_with_an_empty_object(app, call):
    app.errorhandler(KeyError)(lambda: None)
    assert (call("fail").status, call("fail").data) == ("success", {})


def test_an_errorhandler_may_be_async(app, call):
    @app.errorhandler(KeyError)
    async def handle(error):
        return "handled"

    assert call("fail").data == "handled"


def test_an_errorhandler_catches_subclasses(app, call):
    app.errorhandler(LookupError)(lambda: "handled")
    assert call("fail").data == "handled"


def test_an_errorhandler_of_another_error_is_not_asked(app, call):
    app.errorhandler(ValueError)(lambda: "handled")
    assert call("fail").data["type"] == "KeyError"


@pytest.mark.parametrize(
    "kinds",
    [(Exception, LookupError, KeyError), (KeyError, LookupError, Exception)],
    ids=["farthest first", "nearest first"],
)
def test_the_nearest_class_in_the_mro_answers(app, call, kinds):
    for kind in kinds:
        app.errorhandler(kind)(functools.partial(lambda name: name, kind.__name__))
    assert call("fail").data == "KeyError"


def test_the_mro_decides_between_two_bases(app):
    class Both(KeyError, ValueError):
        pass

    app.action("fail twice")(raising(Both()))
    app.errorhandler(ValueError)(lambda: "value")
    app.errorhandler(KeyError)(lambda: "key")
    assert app.test_client().call("fail twice").data == "key"


def test_a_blueprint_s_errorhandler_goes_before_the_app_s(recorder):
    recorder.app.errorhandler(KeyError)(lambda: "app")
    recorder.blueprint.errorhandler(KeyError)(lambda: "blueprint")
    assert recorder.call("reports.fail").data == "blueprint"


def test_a_blueprint_s_far_errorhandler_goes_before_the_app_s_near_one(recorder):
    recorder.app.errorhandler(KeyError)(lambda: "app")
    recorder.blueprint.errorhandler(Exception)(lambda: "blueprint")
    assert recorder.call("reports.fail").data == "blueprint"


def test_the_app_s_errorhandler_answers_where_the_blueprint_has_none(recorder):
    recorder.app.errorhandler(KeyError)(lambda: "app")
    recorder.blueprint.errorhandler(ValueError)(lambda: "blueprint")
    assert recorder.call("reports.fail").data == "app"


def test_a_blueprint_s_errorhandler_leaves_the_app_s_own_actions_alone(recorder):
    recorder.blueprint.errorhandler(KeyError)(lambda: "blueprint")
    assert recorder.call("fail").status == "error"


def test_an_exception_of_an_errorhandler_is_the_result(app, call):
    app.errorhandler(KeyError)(raising(ValueError("worse")))
    assert call("fail").data == {"error": "worse", "type": "ValueError"}


def test_an_error_of_an_errorhandler_reaches_no_other_errorhandler(app, call):
    app.errorhandler(KeyError)(raising(ValueError("worse")))
    app.errorhandler(ValueError)(lambda: "handled")
    assert call("fail").status == "error"


def test_an_errorhandler_s_data_must_be_json(app, call):
    app.errorhandler(KeyError)(lambda: {"a": {1}})
    assert [one["path"] for one in call("fail").problems] == ["a"]


def test_an_errorhandler_may_raise_the_error_again(app, call):
    app.errorhandler(KeyError)(raising(KeyError("gone")))
    assert call("fail").data == {"error": "KeyError: 'gone'", "type": "KeyError"}


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration])
def test_an_errorhandler_catches_exceptions_that_would_end_a_program(app, error):
    app.action("end")(raising(error()))
    app.errorhandler(error)(lambda: "handled")
    assert app.test_client().call("end").data == "handled"


def test_an_errorhandler_of_exception_does_not_catch_an_exit(app):
    app.action("end")(raising(SystemExit("bye")))
    app.errorhandler(Exception)(lambda: "handled")
    assert app.test_client().call("end").data == {"error": "bye", "type": "SystemExit"}


def test_an_errorhandler_of_base_exception_catches_everything(app):
    app.action("end")(raising(SystemExit("bye")))
    app.errorhandler(BaseException)(lambda: "handled")
    assert app.test_client().call("end").data == "handled"


def test_a_handled_task_has_no_error_for_teardown(app, call, seen):
    app.errorhandler(KeyError)(lambda: "handled")
    app.teardown_task(lambda error: seen.append(error))
    call("fail")
    assert seen == [None]


# Tasks that are refused before any handler.


REFUSED = {
    "payload": (InvalidPayloadError, "needy"),
    "action": (ActionNotFoundError, "unknown"),
    "limit": (RateLimited, "limited"),
}
every_refusal = pytest.mark.parametrize(("error", "action"), REFUSED.values(), ids=REFUSED)


@pytest.fixture
def refuse(app):
    """Return a function that sends a task which the app refuses, and returns the result."""
    app.action(needy)
    app.action(app.rate_limit("1/hour")(limited_anew()))

    def refused(action):
        client = app.test_client()
        if action == "limited":
            client.call(action, id="admitted")
        return client.call(action, id="refused")

    return refused


def limited_anew():
    # A limit stays on its function, so each test has one of its own.
    def limited():
        return "admitted"

    return limited


@every_refusal
def test_a_refused_task_runs_no_before_hook(app, refuse, seen, error, action):
    app.before_task(lambda ctx: seen.append(ctx.id))
    refuse(action)
    assert "refused" not in seen


@every_refusal
def test_an_errorhandler_sees_a_refused_task(app, refuse, error, action):
    app.errorhandler(error)(lambda error: type(error).__name__)
    assert refuse(action).data == error.__name__


@every_refusal
def test_an_after_hook_sees_a_refused_task(app, refuse, error, action):
    app.after_task(lambda result: attrs.evolve(result, message="seen"))
    assert refuse(action).message == "seen"


@every_refusal
def test_a_teardown_gets_a_refused_task_s_error(app, refuse, seen, error, action):
    app.teardown_task(lambda error, ctx: seen.append((ctx.id, type(error))))
    refuse(action)
    assert seen[-1] == ("refused", error)


@every_refusal
def test_a_handled_refusal_leaves_no_error_for_teardown(app, refuse, seen, error, action):
    app.errorhandler(error)(lambda: "handled")
    app.teardown_task(lambda error, ctx: seen.append((ctx.id, error)))
    refuse(action)
    assert seen[-1] == ("refused", None)


@every_refusal
def test_hooks_that_change_nothing_leave_a_refusal_as_it_is(app, refuse, recorder, error, action):
    bare = refuse_without_hooks(action)
    app.after_task(recorder.note("after"))
    app.teardown_task(recorder.note("teardown"))
    assert refuse(action).envelope == bare.envelope


def refuse_without_hooks(action):
    app = Recorder().app
    app.action(needy)
    app.action(app.rate_limit("1/hour")(limited_anew()))
    client = app.test_client()
    if action == "limited":
        client.call(action)
    return client.call(action)


def test_a_blueprint_s_hooks_see_its_refused_tasks(recorder):
    recorder.blueprint.action(needy)
    recorder.blueprint.errorhandler(InvalidPayloadError)(lambda: "handled")
    assert recorder.call("reports.needy").data == "handled"


def test_a_blueprint_s_hooks_see_no_unknown_action(recorder):
    recorder.blueprint.errorhandler(ActionNotFoundError)(lambda: "handled")
    assert recorder.call("reports.nothing").status == "error"


# Tasks that run out of time.


class Slow:
    """An app whose handler takes longer than its timeout of a second."""

    def __init__(self):
        self.app = ProviderApp("slow")
        self.app.action("slow", timeout=1)(lambda: self.client.clock.advance(2))

    def call(self):
        self.client = self.app.test_client()
        return self.client.call("slow")


def test_an_errorhandler_sees_a_timeout():
    slow = Slow()
    slow.app.errorhandler(TaskTimeoutError)(lambda error: f"after {error.timeout:g} s")
    assert slow.call().data == "after 1 s"


def test_an_after_hook_sees_only_the_timeout():
    slow, seen = Slow(), []

    @slow.app.after_task
    def hook(result):
        seen.append(result.status.value)
        return result

    slow.call()
    assert seen == ["error"]


def test_a_timeout_tears_down_once():
    slow, torn = Slow(), []
    slow.app.teardown_task(lambda: torn.append(1))
    slow.call()
    assert torn == [1]


def test_a_before_hook_runs_once_for_a_timeout():
    slow, seen = Slow(), []
    slow.app.before_task(lambda: seen.append(1))
    slow.app.errorhandler(TaskTimeoutError)(lambda: "handled")
    slow.call()
    assert seen == [1]
