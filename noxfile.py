"""What a contributor runs, one session each: `nox -l` lists them, `nox -s unit` runs one, `nox` the quick ones."""

from __future__ import annotations

import nox

nox.options.sessions = ["lint", "types", "unit"]
nox.options.reuse_existing_virtualenvs = True
# Percent of branches that tests must take in each of these, payloads on loopback hosts included.
COVERAGE = {"payload/kernel": 96, "payload/session": 94, "engine": 96, "transport": 97}
QUICK = ("tests/unit", "tests/test_architecture.py", "tests/contract/test_declarations.py")


def install(session: nox.Session) -> None:
    """Install the project in place, with what its tests need."""
    session.install("-q", "-e", ".[test]")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting; `nox -s lint -- --fix` repairs what can be repaired."""
    session.install("-q", "ruff")
    if "--fix" in session.posargs:
        session.run("ruff", "check", "--fix", ".")
        session.run("ruff", "format", ".")
    else:
        session.run("ruff", "check", ".")
        session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of both halves."""
    install(session)
    session.run("mypy", *session.posargs)


@nox.session
def unit(session: nox.Session) -> None:
    """Run the tests that need no server: units, declarations of modules, import rules."""
    install(session)
    session.run("pytest", *(session.posargs or QUICK))


@nox.session
def integration(session: nox.Session) -> None:
    """Run the tests against SSH servers in this process and the command line in its own."""
    install(session)
    session.run("pytest", *(session.posargs or ("-n", "auto", "tests/integration")))


@nox.session
def fleet(session: nox.Session) -> None:
    """Run the tests on real systemd hosts; needs root, debootstrap and systemd-nspawn."""
    install(session)
    session.run(
        "pytest",
        *(session.posargs or ("-n", "auto", "--dist", "loadfile", "-m", "fleet")),
        env={"SLOTH_FLEET": "required"},
    )


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure branch coverage, payloads included, by everything but the fleet's tests, or by those that are given."""
    session.install("-q", "-e", ".[dev]")
    session.run("python", "-m", "tests.support.follow")
    session.run("coverage", "erase")
    # What these count is loaded modules, and coverage loads some.
    left_out = [f"--deselect=tests/{name}.py" for name in ("integration/test_weight", "unit/test_lazy_modules")]
    tests = session.posargs or ("-n", "auto", "-m", "not fleet", *left_out)
    session.run("coverage", "run", "-m", "pytest", *tests, env={"SLOTH_FOLLOW": "1"})
    session.run("coverage", "combine", "--quiet")
    for package in COVERAGE:
        session.run("coverage", "report", f"--include=sloth/{package}/*", "--skip-empty", "--fail-under=0")
    floors = " ".join(f"{package}={0 if session.posargs else least}" for package, least in COVERAGE.items())
    branches = f"coverage json --quiet --fail-under=0 -o - | python -m tests.support.branches {floors}"
    session.run("bash", "-c", branches, external=True)
    if not session.posargs:
        session.run("coverage", "report", "--skip-covered", "--skip-empty")


@nox.session
def docs(session: nox.Session) -> None:
    """Write the generated docs anew, then check that every document is true."""
    install(session)
    with open("docs/modules.md", "w", encoding="utf-8") as reference:
        session.run("sloth-runner", "doc", "--markdown", stdout=reference)
    pages = {topic: session.run("sloth-runner", "doc", topic, "--markdown", silent=True) for topic in ("task", "lua")}
    with open("docs/reference.md", encoding="utf-8") as page:
        head = page.read().partition("<!-- sloth-runner doc")[0]
    parts = [f"<!-- sloth-runner doc {topic} --markdown -->\n{text}" for topic, text in pages.items()]
    with open("docs/reference.md", "w", encoding="utf-8") as page:
        page.write(head + "\n".join(parts))
    session.run("pytest", "tests/integration/test_docs.py", env={"SLOTH_WRITE_DOCS": "1"})
    contracts = ("tests/contract/test_declarations.py", "tests/contract/test_site_reference.py")
    session.run("pytest", "tests/integration/test_docs.py", *contracts)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure, and write docs/benchmarks.md; `nox -s bench -- w1 --no-peers` measures one workload without peers."""
    install(session)
    session.run("python", "-m", "bench", *session.posargs)


@nox.session
def package(session: nox.Session) -> None:
    """Build the sdist and the wheel and check both, as CI does."""
    session.install("-q", "-e", ".[dev]")
    session.run(".ci/package", external=True)
