"""The views of states across hosts: drift, resources, what is shared, and plans."""

from __future__ import annotations

from sloth.web import audit
from sloth.web.data import drift, live, plans, resources, shared
from sloth.web.data.paging import Page
from sloth.web.view import PAGING, RUN, SEARCH, Kind, Parameter, View

KEY = Parameter("key", "The key of a resource, such as file:copy:/etc/motd.")

STATE_VIEWS = (
    View(
        name="progress",
        path="/runs/{run}/progress",
        title="How far a run is",
        find=live.read_live,
        result=live.Live,
        path_parameters=(RUN,),
        section="runs",
    ),
    View(
        name="drift",
        path="/drift",
        title="Drift",
        find=drift.find_drift,
        result=drift.Drift,
        parameters=(
            SEARCH,
            Parameter("by", "Each finding, or grouped by host or resource.", Kind.CHOICE, drift.GROUPS),
            Parameter("state", "Only what is so now, was put back, or is over.", Kind.CHOICE, drift.STATES),
            Parameter("host", "Only what was found on this host."),
            Parameter("key", "Only what was found of this resource."),
            Parameter("days", "Only what was first found in the last so many days.", Kind.NUMBER),
            *PAGING,
        ),
        section="drift",
    ),
    View(
        name="resources",
        path="/resources",
        title="Resources",
        find=resources.list_resources,
        result=Page[resources.ResourceRow],
        parameters=(
            SEARCH,
            Parameter("module", "Only those of this module."),
            Parameter("host", "Only those of this host."),
            Parameter("site", "Only those of this site."),
            Parameter("orphaned", "1: only what its site no longer names.", Kind.NUMBER),
            Parameter("differing", "1: only what not all hosts have in the same way.", Kind.NUMBER),
            *PAGING,
        ),
        section="resources",
    ),
    View(
        name="resource",
        path="/resource",
        title="One resource",
        find=resources.find_resource,
        result=resources.Resource,
        parameters=(KEY, Parameter("host", "Only what happened on this host."), *PAGING),
        section="resources",
    ),
    View(
        name="shared",
        path="/shared",
        title="Shared values, locks, and what is frozen",
        find=shared.find_shared,
        result=shared.SharedState,
        section="shared",
    ),
    View(name="plans", path="/plans", title="Plans", find=plans.list_plans, result=plans.Plans, section="plans"),
    View(
        name="plan",
        path="/plan",
        title="One plan",
        find=plans.find_plan,
        result=plans.OnePlan,
        parameters=(Parameter("name", "The name of a saved plan."),),
        section="plans",
    ),
    View(
        name="actions",
        path="/actions",
        title="Actions",
        find=lambda source, query: audit.read(source.directory, query.window),
        result=Page[audit.Action],
        parameters=PAGING[:2],
        section="actions",
    ),
)
