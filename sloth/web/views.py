"""All views: the one table from which pages, the JSON API and its OpenAPI document are made."""

from __future__ import annotations

from sloth.state.run_records import RunKind
from sloth.web.data import change, host, hosts, overview, rollback, run, runs, search, waterfall
from sloth.web.data.paging import Page
from sloth.web.state_views import STATE_VIEWS
from sloth.web.view import PAGING, RUN, SEARCH, Kind, Parameter, View

HOST = Parameter("host", "The name of a host.")

STATUSES = ("changed", "unchanged", "failed", "unreachable", "skipped", "unknown", "never")
DRIFT_STATUSES = ("drift", "clean", "failed", "unreachable")

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
            Parameter("origin", "Only runs from this machine."),
            Parameter("plan", "Only runs that applied the saved plan with this id."),
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
    View(
        name="run_hosts",
        path="/runs/{run}/hosts",
        title="Hosts of a run, and where time went",
        find=waterfall.find_run_hosts,
        result=waterfall.RunHosts,
        path_parameters=(RUN,),
        parameters=(SEARCH, Parameter("status", "Only hosts that ended so."), *PAGING),
        section="runs",
    ),
    View(
        name="change",
        path="/runs/{run}/changes/{number}",
        title="One change",
        find=change.find_change,
        result=change.ChangePage,
        path_parameters=(
            RUN,
            Parameter("number", "The number of a result.", Kind.NUMBER),
        ),
        parameters=(),
        section="runs",
    ),
    View(
        name="rollback",
        path="/runs/{run}/rollback",
        title="What a rollback of a run would do",
        find=rollback.find_rollback,
        result=rollback.RollbackPage,
        path_parameters=(RUN,),
        parameters=PAGING,
        section="runs",
    ),
    View(
        name="hosts",
        path="/hosts",
        title="Hosts",
        find=hosts.list_hosts,
        result=hosts.Hosts,
        parameters=(
            SEARCH,
            Parameter("status", "Only hosts whose newest run ended so.", Kind.CHOICE, STATUSES),
            Parameter("drift", "Only hosts whose newest drift run ended so.", Kind.CHOICE, DRIFT_STATUSES),
            Parameter("group", "Only hosts of this group."),
            Parameter("unseen", "Only hosts that were not reached for so many days.", Kind.NUMBER),
            Parameter("frozen", "Only hosts with something that runs leave alone.", Kind.CHOICE, ("1",)),
            Parameter("orphaned", "Only hosts with orphaned records.", Kind.CHOICE, ("1",)),
            Parameter("by", "Group by this: group, var:NAME or fact:NAME."),
            Parameter("value", "With `by`: only hosts with this value."),
            *PAGING,
        ),
        section="hosts",
    ),
    View(
        name="host",
        path="/hosts/{host}",
        title="One host",
        find=host.find_host,
        result=host.HostPage,
        path_parameters=(HOST,),
        parameters=(
            SEARCH,
            Parameter("module", "Only records of this module."),
            Parameter("task", "Only records of this task."),
            Parameter("reason", "Only what changed last for this reason."),
            Parameter("orphaned", "Only orphaned records.", Kind.CHOICE, ("1",)),
            *PAGING,
        ),
        section="hosts",
    ),
    View(
        name="history",
        path="/hosts/{host}/history",
        title="The history of a host",
        find=host.find_history,
        result=host.HistoryPage,
        path_parameters=(HOST,),
        parameters=(
            SEARCH,
            Parameter("key", "Only changes of this key."),
            Parameter("reason", "Only changes for this reason."),
            Parameter("status", "Only results with this status."),
            *PAGING,
        ),
        section="hosts",
    ),
    View(
        name="facts",
        path="/hosts/{host}/facts",
        title="The facts of a host",
        find=host.find_facts,
        result=host.FactsPage,
        path_parameters=(HOST,),
        parameters=(SEARCH, *PAGING),
        section="hosts",
    ),
    View(
        name="variables",
        path="/hosts/{host}/variables",
        title="The variables of a host",
        find=host.find_variables,
        result=host.VariablesPage,
        path_parameters=(HOST,),
        parameters=(SEARCH, *PAGING),
        section="hosts",
    ),
    View(name="search", path="/search", title="Search", find=search.find, result=search.Found, parameters=(SEARCH,)),
    *STATE_VIEWS,
)
