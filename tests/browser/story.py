"""What has happened on the fleet of the browser tests: a story of a week of work, told by real commands."""

from __future__ import annotations

from tests.support.world import World

HOSTS = ("web1", "web2", "web3", "web4", "db1")
SITE = """
task({
    name = "sshd",
    run = function()
        file.copy({ dest = "/etc/ssh/sshd_config", mode = "0600",
            content = "Port 22\\nPermitRootLogin no\\nPasswordAuthentication no\\n" })
    end,
})
task({
    name = "app",
    hosts = "@web",
    run = function()
        file.directory({ path = "/srv/app", mode = "0755" })
        file.copy({ dest = "/srv/app/VERSION", content = VERSION .. "\\n", mode = "0644" })
        file.lineinfile({ path = "/srv/environment", line = "export APP=/srv/app", create = true })
        state.set("app/version", VERSION)
    end,
})
"""
DEPLOY = """
task({
    name = "deploy",
    hosts = "@web",
    run = function()
        state.lock("deploy", "ann", 3600)
        file.copy({ dest = "/srv/app/<b>release", content = "2026\\n" })
        if host.name == "web2" then
            exec.run("echo 'no space left on device' >&2; exit 28")
        end
    end,
})
"""


def site(version: str) -> str:
    """Return the site that applies a version of the app."""
    return SITE.replace("VERSION .. ", f'"{version}" .. ').replace(
        '"app/version", VERSION', f'"app/version", "{version}"'
    )


def tell(world: World) -> None:
    """Run everything that the pages are then to show."""
    world.write("site.sloth", site("1.0"))
    world.write("deploy.sloth", DEPLOY)
    world("run", "-i", "inventory.toml", "-f", "site.sloth")
    world.write("site.sloth", site("1.1"))
    world("run", "-i", "inventory.toml", "-f", "site.sloth", "--check")
    world("run", "-i", "inventory.toml", "-f", "site.sloth", "--limit", "@web")
    world.edit_by_hand("web3")
    world.edit_by_hand("db1")
    world("drift", "-i", "inventory.toml")
    world("run", "-i", "inventory.toml", "-f", "site.sloth", "--limit", "db1")
    world("plan", "-i", "inventory.toml", "-f", "site.sloth", "-o", "deploy.plan")
    freezing = (
        "freeze",
        "file:copy:/etc/ssh/sshd_config",
        "--agent",
        "web4",
        "--until",
        "3d",
        "--why",
        "debugging ssh",
    )
    world("state", *freezing, "-i", "inventory.toml")
    world("run", "-i", "inventory.toml", "-f", "deploy.sloth", status=1)
