"""All views: the one table from which pages, the JSON API and its OpenAPI document are made."""

from __future__ import annotations

from sloth.state.run_records import RunKind
from sloth.web.data import overview, run, runs
from sloth.web.data.paging import Page
from sloth.web.state_views import STATE_VIEWS
from sloth.web.view import PAGING, Kind, Parameter, View

SEARCH = Parameter("q", "A text to look for.")
RUN = Parameter("run", "The id of a run, the beginning of it, or `last`.")

VIEWS = (
    View(
        name="overview",
        path="/",
        title="Overview",
        find=overview.find_overview,
        result=overview.Overview,
        parameters=(Parameter("unseen", "Days after which a host counts as not seen.", Kind.NUMBER),),
        section="overview",
    ),
    View(
        name="runs",
        path="/runs",
        title="Runs",
        find=runs.list_runs,
        result=Page[runs.RunRow],
        parameters=(
            SEARCH,
            Parameter("kind", "Only runs, checks or drift runs.", Kind.CHOICE, tuple(RunKind)),
            Parameter("end", "Only runs that ended so.", Kind.CHOICE, tuple(runs.End)),
            Parameter("who", "Only runs of this user."),
            Parameter("site", "Only runs of this site."),
            Parameter("host", "Only runs over this host."),
            Parameter("days", "Only runs of the last so many days.", Kind.NUMBER),
            *PAGING,
        ),
        section="runs",
    ),
    View(
        name="run",
        path="/runs/{run}",
        title="One run",
        find=run.find_run,
        result=run.Run,
        path_parameters=(RUN,),
        parameters=(
            SEARCH,
            Parameter("status", "Only results with this status."),
            Parameter("reason", "Only changes for this reason."),
            Parameter("host", "Only results of this host."),
            Parameter("task", "Only results of this task."),
            *PAGING,
        ),
        section="runs",
    ),
    *STATE_VIEWS,
)
